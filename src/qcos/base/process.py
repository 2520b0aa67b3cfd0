"""Work that may hang, crash or eat memory runs in a process that can be killed.

A `KillableProcess` is one child that answers framed requests over its standard input and output; a
`ProcessPool` hands a request to a free child. A child that misses its deadline or dies is killed and
replaced; only that request fails. The child module imports what it needs, then calls `serve(handle)`; its
standard error is thrown away, its working directory is an empty one, its address space is bounded.

Frame: 4 bytes big-endian length, then the bytes. An answer's first byte is 0 (result follows) or 1 (error
text follows). The first frame of a child says that it is ready: a deadline counts from there, so that the
imports of a replaced child are on nobody's account.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Generic, TypeVar

from qcos.base.errors import QcosError, Unavailable

Item = TypeVar("Item")
ORPHAN_SECONDS = 60  # a request older than this has no parent waiting for it: every deadline is shorter
KEPT_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
)  # no secrets reach a child
START_SECONDS = 30.0  # imports of the slowest child take 2 s on an idle core


class DeadlineExceeded(QcosError):
    """The child did not answer in time and was killed.

    Attributes:
        starved: It was the wall clock's deadline, and the child had not used the processor time it was given: the machine had none
            for it, and nothing is known of the work.
    """

    family = "limit"
    starved: bool = False


class ChildFailed(QcosError):
    """The child answered with an error, or died."""

    family = "invalid"


class KillableProcess:
    """One child process of our own; not safe for use by two threads at once (see `ProcessPool`).

    Attributes:
        spent_s: Processor seconds the last call took.
    """

    def __init__(self, module: str, *, memory_bytes: int) -> None:
        self.spent_s = 0.0
        self._module = module
        self._memory_bytes = memory_bytes
        self._directory = tempfile.TemporaryDirectory(prefix="qcos-child-")
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False
        self.start()

    @property
    def pid(self) -> int | None:
        """Return the child's process id, if one runs."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child if none runs; it becomes ready while the caller goes on."""
        if self._child is not None and self._child.poll() is None:
            return
        self.kill()  # closes the pipes of one that died
        self._child = subprocess.Popen(
            [sys.executable, "-m", self._module, str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._directory.name,
            bufsize=0,
            env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
        )

    def call(self, request: bytes, deadline_s: float, *, processor_s: float | None = None) -> bytes:
        """Send a request and return the answer. The deadline counts from when the child is ready.

        Args:
            request: What to answer.
            deadline_s: Seconds of the wall clock.
            processor_s: Seconds of processor time the child may use; by default the deadline alone bounds it.

        Raises:
            Unavailable: ``process.start`` when the child does not become ready.
            DeadlineExceeded: ``process.deadline``; the child was killed and a new one started.
            ChildFailed: ``process.error`` with the child's text, or ``process.died``.
        """
        self.start()
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None  # noqa: S101
        self._await_ready()
        until, before_s = time.monotonic() + deadline_s, _processor_s(child.pid)

        def used_s() -> float:
            return _processor_s(child.pid) - before_s

        def left_s() -> float:
            left = until - time.monotonic()
            return left if processor_s is None else min(left, processor_s - used_s())

        try:
            self._write(child.stdin.fileno(), struct.pack(">I", len(request)) + request, left_s)
            (size,) = struct.unpack(">I", self._read(child.stdout.fileno(), 4, left_s))
            answer = self._read(child.stdout.fileno(), size, left_s)
            self.spent_s = used_s()
        except TimeoutError:
            late = DeadlineExceeded(
                "process.deadline",
                "the work was stopped at its deadline",
                expected=f"an answer within {deadline_s if processor_s is None else processor_s:g} s",
            )
            late.starved = processor_s is not None and used_s() < processor_s
            self._replace()
            raise late from None
        except (EOFError, BrokenPipeError, OSError):
            self._replace()
            raise ChildFailed(
                "process.died",
                "the process doing the work died",
                hint="the input needs too much memory or crashes the parser",
            ) from None
        except BaseException:  # an interrupt between frames would leave an answer behind for the next caller
            self._replace()
            raise
        if answer[:1] == b"\x01":
            raise ChildFailed("process.error", answer[1:].decode("utf-8", "replace"))
        return answer[1:]

    def kill(self) -> None:
        """End the child at once."""
        child, self._child = self._child, None
        self._ready = False
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()

    def close(self) -> None:
        """End the child and remove its directory."""
        self.kill()
        self._directory.cleanup()

    def _await_ready(self) -> None:
        child = self._child
        if self._ready or child is None or child.stdout is None:
            return
        try:
            until = time.monotonic() + START_SECONDS
            size = struct.calcsize(">I") + 1
            self._read(child.stdout.fileno(), size, lambda: until - time.monotonic())
        except (EOFError, OSError) as error:
            self.kill()
            raise Unavailable(
                "process.start",
                f"the process {self._module} does not start",
                got="no sign of life" if isinstance(error, TimeoutError) else "it ended",
                hint="run it by hand to see its error: python -m " + self._module,
            ) from None
        self._ready = True

    def _replace(self) -> None:
        self.kill()
        self.start()

    @staticmethod
    def _write(fd: int, data: bytes, left_s: Callable[[], float]) -> None:
        os.set_blocking(fd, False)
        view = memoryview(data)
        while view:
            _await(fd, select.POLLOUT, left_s)
            view = view[os.write(fd, view) :]

    @staticmethod
    def _read(fd: int, size: int, left_s: Callable[[], float]) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            _await(fd, select.POLLIN, left_s)
            part = os.read(fd, min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


def _await(fd: int, event: int, left_s: Callable[[], float]) -> None:
    """Wait for a pipe; what is there already is taken however late it is. Poll, because select refuses descriptors above 1023."""
    poll = select.poll()
    poll.register(fd, event)
    while not poll.poll(max(0.0, left_s()) * 1000):
        if left_s() <= 0:
            raise TimeoutError


def _processor_s(pid: int) -> float:
    """Return the processor time of a process of ours that was not waited for yet (Linux: each process has such a clock)."""
    return time.clock_gettime(~pid << 3 | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel


class Line(Generic[Item]):
    """A stock of things that are lent, to one thread each, in the order in which the threads came: nobody starves.

    A queue of the standard library would let the thread that puts a thing back take it again before those who wait.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._lock = threading.Lock()
        self._free = list(items)  # the one used last is lent first: it is warm
        self._waiting: deque[queue.SimpleQueue[Item]] = deque()

    @property
    def free(self) -> int:
        """Return how many things are lent to nobody."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """Return how many threads wait."""
        return len(self._waiting)

    @contextlib.contextmanager
    def lend(self, wait_s: float) -> Iterator[Item]:
        """Lend a thing for as long as the context is open.

        Raises:
            TimeoutError: When none became free within ``wait_s`` seconds.
        """
        item = self._take(wait_s)
        try:
            yield item
        finally:
            self._give(item)

    def _take(self, wait_s: float) -> Item:
        with self._lock:
            if self._free:  # then nobody waits
                return self._free.pop()
            place: queue.SimpleQueue[Item] = queue.SimpleQueue()
            self._waiting.append(place)
        try:
            return place.get(timeout=wait_s)
        except BaseException as error:  # an interrupt, too, must not lose what it was given
            with self._lock:
                given = place not in self._waiting
                if not given:
                    self._waiting.remove(place)
            if given and isinstance(error, queue.Empty):
                return place.get_nowait()  # it came in the last moment
            if given:
                self._give(place.get_nowait())
                raise
            if isinstance(error, queue.Empty):
                raise TimeoutError from None
            raise

    def _give(self, item: Item) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(item)
            else:
                self._free.append(item)


class ProcessPool:
    """Several children; calls wait for a free one and are served in the order in which they came. Safe for many threads."""

    def __init__(self, module: str, *, size: int, memory_bytes: int, wait_s: float = 10.0) -> None:
        self._wait_s = wait_s
        self._children = [KillableProcess(module, memory_bytes=memory_bytes) for _ in range(size)]
        self._line = Line(self._children)

    def call(self, request: bytes, deadline_s: float) -> bytes:
        """As `KillableProcess.call`; the deadline counts from when a child is free.

        Raises:
            Unavailable: ``process.busy`` when no child became free.
        """
        with self.child() as child:
            return child.call(request, deadline_s)

    @contextlib.contextmanager
    def child(self) -> Iterator[KillableProcess]:
        """Lend a child.

        Raises:
            Unavailable: ``process.busy`` when none became free.
        """
        with contextlib.ExitStack() as stack:
            try:
                child = stack.enter_context(self._line.lend(self._wait_s))
            except TimeoutError:
                raise Unavailable(
                    "process.busy", "all working processes are busy", hint="try again", retry_after_s=1.0
                ) from None
            yield child

    def close(self) -> None:
        """End all children."""
        for child in self._children:
            child.close()


def serve(handle: Callable[[bytes], bytes], *, sealed: bool = False) -> None:
    """Run the child's loop: read a request, answer it, until the parent is gone. Called by the child module.

    Args:
        handle: Makes the answer to a request.
        sealed: From now on the process can open no file and no socket, whatever its input makes it try.
            Import everything before.
    """
    if len(sys.argv) > 1:
        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)  # a library that prints must not write into our frames
    if sealed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    collect_rarely()
    _answer(sink, b"\x00")
    while True:
        head = source.read(4)
        if len(head) < 4:
            return
        request = source.read(struct.unpack(">I", head)[0])
        signal.alarm(ORPHAN_SECONDS)  # default action: the kernel ends us, whatever the interpreter is doing
        try:
            answer = b"\x00" + handle(request)
        except MemoryError:
            answer = b"\x01out of memory"
        except Exception as error:
            answer = b"\x01" + (str(error) or type(error).__name__).encode()
        except BaseException as error:  # pyo3's PanicException is no Exception
            answer = b"\x01" + f"{type(error).__name__}: {error}".encode()
        signal.alarm(0)
        _answer(sink, answer)


def _answer(sink: BinaryIO, answer: bytes) -> None:
    sink.write(struct.pack(">I", len(answer)) + answer)
    sink.flush()


def take_long_turns() -> None:
    """Let a thread keep the interpreter until it waits for something, at most 20 ms.

    Our threads wait for the database or a driver every fraction of a millisecond; interrupting them every 5 ms, as the interpreter
    does by default, costs a busy process a tenth of its time (`make bench`).
    """
    sys.setswitchinterval(0.02)


def collect_rarely() -> None:
    """Look for garbage in cycles rarely, and never among what the process has loaded. Call it when everything is wired.

    Requests and jobs leave next to no cycles behind, yet the interpreter, as it is set, looks for them every 700 objects and goes through
    all modules again and again: a twelfth of the processor time of API and worker (`make bench`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux).

    For children of a long-lived main thread.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
