"""Group commit: calls that arrive while one is being written are written together, next.

No timer: a lone call goes through at once; under load the batch is whatever waited while the previous one
was being written.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Turns many calls of one item into few calls of many.

    Args:
        write: Takes items, returns one result for each, in order. All or nothing: when it raises, each item
            is
            tried alone, so that a bad item fails only itself.
        limit: Most items given to one call.
        name: Name of the thread.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Sequence[Result]], *, limit: int, name: str) -> None:
        self._write = write
        self._limit = limit
        self._queue: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Result]:
        """Hand in an item; the future resolves when its batch is written.

        Raises:
            RuntimeError: After `close`, when nobody would write it.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._thread.name} is closed")
            self._queue.put((item, future))
        return future

    def close(self) -> None:
        """Write what waits, then end."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            waiting = [self._queue.get()]
            while len(waiting) < self._limit and not self._queue.empty():
                waiting.append(self._queue.get())
            ended = None in waiting
            batch = [pair for pair in waiting if pair is not None and pair[1].set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _answer(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._write([item for item, _ in batch])
        except BaseException as error:  # whatever it is, the thread must live: everybody waits for it
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for pair in batch:
                    self._answer([pair])
            return
        if len(results) != len(batch):  # written all the same, so not tried again
            for _, future in batch:
                future.set_exception(RuntimeError(f"{len(results)} results for {len(batch)} items"))
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
