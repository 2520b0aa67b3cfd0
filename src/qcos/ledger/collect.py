"""Ask witnesses to cosign a checkpoint, all at once, until enough have (C2SP tlog-witness, the log's side).

Outside every database scope. What a witness answers is hostile until its signature holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx

from qcos.base import tls
from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.base.hosts import is_loopback
from qcos.base.limits import MAX_CLOCK_DRIFT_S, MAX_NOTE_BYTES, WITNESS_GRACE_S, WITNESS_TIMEOUT_S
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.note import Line, Vkey, join, parse, verify
from qcos.ledger.quorum import Known, Policy
from qcos.ledger.submission import SIZE_TYPE, origin_hash, read_size, write_submission

Outcome = Literal["cosigned", "ahead", "refused", "wrong", "unreachable", "busy"]
Prove = Callable[[int], Sequence[bytes]]

_ROUNDS: Final = 3  # another sequencer may ask the same witness between two of our requests


@dataclass(frozen=True, slots=True)
class Told:
    """What a witness answered.

    Attributes:
        name: The witness's name in its keys.
        url: Its submission prefix.
        outcome: ``cosigned``; ``ahead``: it has cosigned a larger tree; ``refused``: this one does not
            continue what it cosigned; ``wrong``: an answer that is none; ``unreachable``; ``busy``: it has
            not answered an earlier request yet.
        detail: Why, for people.
        size: Size of the tree it has cosigned, if it said so.
        time: POSIX seconds its cosignature states.
        shown: The checkpoint it shows to monitors, when it is ahead or refused.
    """

    name: str
    url: str
    outcome: Outcome
    detail: str = ""
    size: int | None = None
    time: int | None = None
    shown: str = ""

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return JSON-ready members."""
        members = {
            "name": self.name,
            "url": self.url,
            "outcome": self.outcome,
            "detail": self.detail,
            "size": self.size,
            "time": self.time,
        }
        return {name: value for name, value in members.items() if value not in ("", None)}


@dataclass(frozen=True, slots=True)
class Collected:
    """What a round gave: the checkpoint with its cosignatures, whether they are enough, what each witness said."""

    note: str
    met: bool
    told: tuple[Told, ...]


class Witnesses:
    """The witnesses of a policy. For one thread.

    Args:
        policy: Who, where, and how many are enough.
        timeout_s: Seconds a round waits.
        grace_s: Seconds it waits for the rest once those that answered are enough.

    Raises:
        Invalid: ``ledger.policy`` when the witnesses that have an address can never be enough, or an address
            is none.
    """

    def __init__(
        self, policy: Policy, *, timeout_s: float = WITNESS_TIMEOUT_S, grace_s: float = WITNESS_GRACE_S
    ) -> None:
        self.policy = policy
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        places: dict[str, list[Known]] = {}
        for known in policy.witnesses.values():
            if known.url:
                places.setdefault(known.url, []).append(known)
        if not policy.met(known.vkey for members in places.values() for known in members):
            raise Invalid(
                "ledger.policy",
                "the witnesses that have an address can never be enough",
                expected=f"addresses of {policy.describe()}"[:300],
            )
        self._asked = [_Asked(url, members, timeout_s) for url, members in places.items()]
        self._pool = ThreadPoolExecutor(max(1, len(self._asked)), thread_name_prefix="witness")

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for asked in self._asked:
            asked.http.close()

    def collect(self, checkpoint: Checkpoint, note: str, prove: Prove) -> Collected:
        """Ask all witnesses; return when enough have cosigned, or the time is over.

        Args:
            checkpoint: What is to be cosigned.
            note: The same, signed by the log.
            prove: Gives the consistency proof from an older size to the checkpoint's. Called from several
                threads.
        """
        running: dict[Future[_Reply], _Asked] = {}
        for asked in self._asked:
            if asked.running is None or asked.running.done():
                asked.running = self._pool.submit(asked.ask, checkpoint, note, prove)
                running[asked.running] = asked
        replies = self._wait(running)
        text, own = parse(note)
        lines = [line for asked in self._asked if asked in replies for line in replies[asked].lines]
        told = [replies[asked].told if asked in replies else asked.told("busy") for asked in self._asked]
        met = self.policy.met(key for reply in replies.values() for key in reply.keys)
        return Collected(join(text, [*own, *lines]), met, tuple(told))

    def _wait(self, running: dict[Future[_Reply], _Asked]) -> dict[_Asked, _Reply]:
        replies: dict[_Asked, _Reply] = {}
        pending = set(running)
        deadline = time.monotonic() + self._timeout_s
        enough = False
        while pending and (left := deadline - time.monotonic()) > 0:
            done, pending = wait(pending, left, return_when=FIRST_COMPLETED)
            replies |= {running[future]: future.result() for future in done}
            if not enough and self.policy.met(key for reply in replies.values() for key in reply.keys):
                enough = True
                deadline = min(deadline, time.monotonic() + self._grace_s)
        return replies


@dataclass(frozen=True, slots=True)
class _Reply:
    told: Told
    lines: tuple[Line, ...] = ()
    keys: tuple[Vkey, ...] = ()


class _Asked:
    """A place that is asked for one or several cosignatures."""

    def __init__(self, url: str, members: Sequence[Known], timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.members = members
        self.running: Future[_Reply] | None = None
        self._timeout_s = timeout_s
        self._size = 0  # what it has cosigned, as far as we know
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
            raise Invalid(
                "ledger.policy",
                "not the address of a witness",
                got=url[:200],
                expected="http(s)://host/prefix",
            )
        environment = not is_loopback(parsed.host)  # a proxy of the environment never serves loopback
        self.http = httpx.Client(
            timeout=timeout_s,
            limits=httpx.Limits(keepalive_expiry=30.0),
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},  # what is packed has no bound until it is unpacked
            trust_env=environment,
            verify=tls.trusted(parsed, trust_env=environment),
        )

    def told(self, outcome: Outcome, detail: str = "", **more: Any) -> Told:  # Any: members of `Told`
        """Return what it told, with its name and address."""
        name = ", ".join(dict.fromkeys(known.vkey.name for known in self.members))
        return Told(name, self.url, outcome, detail[:300], **more)

    def ask(self, checkpoint: Checkpoint, note: str, prove: Prove) -> _Reply:
        """Ask for cosignatures; never raises."""
        try:
            return self._ask(checkpoint, note, prove)
        except httpx.HTTPError as error:
            return _Reply(self.told("unreachable", f"{type(error).__name__}: {error}"))
        except Unavailable as error:
            return _Reply(self.told("unreachable", error.message))
        except QcosError as error:
            return _Reply(self.told("wrong", str(error)))
        except Exception as error:  # a defect of ours in a thread: told instead of lost
            return _Reply(self.told("wrong", f"{type(error).__name__}: {error}"))

    def _ask(self, checkpoint: Checkpoint, note: str, prove: Prove) -> _Reply:
        for _ in range(_ROUNDS):
            old = self._size if self._size <= checkpoint.size else 0
            proof = prove(old) if 0 < old < checkpoint.size else ()
            status, kind, body = self._send("POST", "add-checkpoint", write_submission(old, proof, note))
            if status != 409:
                break
            self._size = read_size(body.removesuffix("\n")) if kind == SIZE_TYPE else old
            if self._size > checkpoint.size:
                return _Reply(
                    self.told("ahead", body.strip(), size=self._size, shown=self._shown(checkpoint.origin))
                )
            if self._size == old:
                break
        if status == 200:
            return self._cosigned(checkpoint, note, body)
        if status in (409, 422):
            self._size = 0
            return _Reply(
                self.told("refused", f"{status} {body.strip()}", shown=self._shown(checkpoint.origin))
            )
        return _Reply(self.told("unreachable" if status >= 500 else "wrong", f"{status} {body.strip()}"))

    def _cosigned(self, checkpoint: Checkpoint, note: str, body: str) -> _Reply:
        """Take the cosignatures that hold and state a time near ours: verifiers compare it."""
        text, signed = verify(note + body, [known.vkey for known in self.members])
        if text != parse(note)[0]:  # a blank line in the answer would make it another note
            raise Integrity("ledger.witness_answer", "the answer is not signature lines only")
        now = time.time()
        good = {held.vkey: held.time for held in signed if abs((held.time or 0) - now) <= MAX_CLOCK_DRIFT_S}
        if not good:
            raise Integrity(
                "ledger.witness_time",
                "the cosignature states a time far from ours",
                got=str(signed[0].time),
                expected=f"about {int(now)}",
            )
        lines: dict[tuple[str, bytes], Line] = {}
        for line in parse(note + body)[
            1
        ]:  # of two by one key the first: its time is the one that was checked
            lines.setdefault((line.name, line.key_id), line)
        self._size = checkpoint.size
        told = self.told("cosigned", size=checkpoint.size, time=min(at or 0 for at in good.values()))
        return _Reply(told, tuple(lines[key.name, key.key_id] for key in good), tuple(good))

    def _shown(self, origin: str) -> str:
        """Return what it shows to monitors, where that stands beside its submission prefix; empty if not."""
        try:
            status, _, body = self._send("GET", f"{origin_hash(origin)}/checkpoint")
        except (httpx.HTTPError, QcosError):
            return ""
        return body if status == 200 else ""

    def _send(self, method: str, path: str, content: bytes | None = None) -> tuple[int, str, str]:
        """Return status, media type and text; a connection that the other side had closed is opened again."""
        try:
            return self._once(method, path, content)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return self._once(method, path, content)

    def _once(self, method: str, path: str, content: bytes | None) -> tuple[int, str, str]:
        late = time.monotonic() + self._timeout_s
        body = bytearray()
        with self.http.stream(method, f"{self.url}/{path}", content=content) as answer:
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_NOTE_BYTES:
                    raise Integrity("ledger.witness_answer", "the answer is too long")
                if time.monotonic() > late:
                    raise Unavailable("ledger.witness_slow", "the answer did not come in time")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            return answer.status_code, kind, body.decode()
        except UnicodeDecodeError:
            raise Integrity("ledger.witness_answer", "the answer is not text") from None
