"""Ask the policies.

The engine runs in processes that are killed when a policy runs away; only that request is denied.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from qcos.base.canonical import digest_of
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Invalid, Problem, Unavailable
from qcos.base.ids import new_id
from qcos.base.limits import (
    MAX_VERDICT_REASONS,
    POLICY_DEADLINE_S,
    POLICY_LOAD_DEADLINE_S,
    POLICY_MEMORY_BYTES,
)
from qcos.base.process import ORPHAN_SECONDS, ChildFailed, DeadlineExceeded, KillableProcess, Line
from qcos.policy.model import ENTRYPOINTS, BundleFacts, Decision, Entrypoint, PolicyBundle, Reason, Verdict

MODULE = "qcos.policy.engine"
ENGINE = "qcos.engine"  # the policy named by reasons that are no policy's own
_UNNAMED = Reason(ENGINE, "policy.input", "the candidates of the input have no names")
NOT_LOADED = b"not loaded"  # as qcos.policy.engine, which is not imported here: it imports the engine
PATIENCE = 10  # a busy machine may take so many times the deadline; the processor time is what is bounded
STARVED_S = 1.0  # least wall-clock bound of one evaluation, seconds; after it nothing is decided
_LOAD_WAIT_S = ORPHAN_SECONDS - 10  # wall-clock bound of reading a bundle, or running its tests


class PolicyEngine:
    """Engine processes for many threads; each answers one request at a time, and threads are served in the order in which they came.

    Args:
        size: Processes. One answers about 2,000 requests a second.
        deadline_s: Processor seconds one evaluation may use.
        memory_bytes: Address space of a process.
        wait_s: Seconds a request waits for a free process.
    """

    def __init__(
        self,
        size: int = 1,
        deadline_s: float = POLICY_DEADLINE_S,
        *,
        memory_bytes: int = POLICY_MEMORY_BYTES,
        wait_s: float = 10.0,
    ) -> None:
        self._deadline_s = deadline_s
        self._wait_s = wait_s
        self._seats = [_Seat(memory_bytes) for _ in range(size)]
        self._line = Line(self._seats)

    def evaluate(self, bundle: PolicyBundle, entrypoint: Entrypoint, input: Mapping[str, Any]) -> Verdict:
        """Ask all policies of the entrypoint (R3.2-R3.5, R11.4).

        Fails closed, for this call only: no policy for the entrypoint, an error in a policy, one that takes
        too long, crashes or needs too much memory, or a bundle that cannot be read are denials with a reason
        (``policy.missing``, ``policy.error``, ``policy.timeout``, ``policy.crashed``, ``policy.invalid``).

        Args:
            bundle: A bundle that `qcos.policy.check.validate` accepted.
            entrypoint: ``jobs`` or ``acts``.
            input: The document of docs/reference/policy.md; JSON values only.

        Raises:
            Unavailable: ``policy.busy`` when no engine became free, ``policy.starved`` when the machine gave the engine no
                processor time; nothing was decided.
        """
        started = time.perf_counter_ns()
        document = json.dumps(input, separators=(",", ":")).encode()
        with self._seat() as seat:
            try:
                answer, packages = seat.evaluate(bundle, entrypoint, document, self._deadline_s)
            except DeadlineExceeded as late:
                if late.starved:
                    raise _starved() from None
                return _failure("policy.timeout", self._timeout(), _since(started))
            except Invalid as error:
                return _failure("policy.invalid", str(error)[:500], _since(started))
            except ChildFailed as error:
                if error.code == "process.died":
                    return _failure(
                        "policy.crashed", "the policies need too much memory or crash", _since(started)
                    )
                return _failure("policy.error", f"a policy failed: {error.message}"[:500], _since(started))
        if not packages:
            missing = f"the bundle has no policy qcos.{entrypoint}.*"
            return _failure("policy.missing", missing, _since(started))
        return _verdict(json.loads(answer), input, _since(started))

    def decide(
        self,
        bundle: PolicyBundle,
        entrypoint: Entrypoint,
        subject: str,
        input: dict[str, Any],  # Any: JSON
    ) -> Decision:
        """As `evaluate`, as a record with id, whole input and its digest, for `store.insert_decisions`.

        Args:
            subject: Id of the job, or the object of the act.

        Raises:
            Invalid: ``policy.input`` when the input's ``time`` is no RFC 3339 instant, or when a number in it
                is beyond what canonical JSON carries exactly (2^53-1).
            Unavailable: ``policy.busy``, ``policy.starved``.
        """
        try:
            at = parse_rfc3339(input["time"])
            digest = digest_of(input)
        except (KeyError, TypeError, ValueError) as error:
            raise Invalid(
                "policy.input", "this is no input for a policy", subject=subject, got=f"{error}"[:200]
            ) from None
        verdict = self.evaluate(bundle, entrypoint, input)
        return Decision(
            id=new_id("dec"),
            entrypoint=entrypoint,
            subject=subject,
            allow=verdict.allow,
            reasons=verdict.reasons,
            excluded=verdict.excluded,
            policies=verdict.policies,
            bundle_version=bundle.version,
            input=input,
            input_digest=digest,
            time=at,
            duration_us=verdict.duration_us,
        )

    def load(self, bundle: PolicyBundle, *, deadline_s: float = POLICY_LOAD_DEADLINE_S) -> BundleFacts:
        """Compile a bundle in one process and return what it holds.

        Raises:
            Invalid: ``policy.bundle`` with every problem, each with file and line.
            Unavailable: ``policy.busy``, ``policy.starved``.
        """
        with self._seat() as seat:
            return seat.load(bundle, deadline_s)

    def warm(self, bundle: PolicyBundle) -> None:
        """Compile a bundle in every process, so that no request waits for it."""
        with ExitStack() as taken:
            for seat in [taken.enter_context(self._seat()) for _ in self._seats]:
                seat.load(bundle)

    def close(self) -> None:
        """End the processes."""
        for seat in self._seats:
            seat.close()

    def __enter__(self) -> PolicyEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _timeout(self) -> str:
        return f"the policies gave no answer within {self._deadline_s * 1000:g} ms"

    @contextmanager
    def _seat(self) -> Iterator[_Seat]:
        with ExitStack() as lent:
            try:
                seat = lent.enter_context(self._line.lend(self._wait_s))
            except TimeoutError:
                raise Unavailable(
                    "policy.busy", "all policy engines are busy", hint="try again", retry_after_s=1.0
                ) from None
            yield seat


class _Seat:
    """One engine process, and what is known of it. Used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self._child = KillableProcess(MODULE, memory_bytes=memory_bytes)
        self._ready: int | None = None  # process that is known to be up
        self._facts: dict[str, BundleFacts] = {}

    def evaluate(
        self, bundle: PolicyBundle, entrypoint: str, document: bytes, deadline_s: float
    ) -> tuple[bytes, tuple[str, ...]]:
        head = f"E {bundle.version} {entrypoint} {max(1, round(deadline_s * 1000))}\n".encode()
        if self._child.pid != self._ready or bundle.version not in self._facts:
            self.load(bundle)
        answer = self._timed(head + document, deadline_s)
        if answer == NOT_LOADED:  # the process dropped it, or was replaced
            self.load(bundle)
            answer = self._timed(head + document, deadline_s)
        return answer, self._facts[bundle.version].policies[entrypoint]

    def load(self, bundle: PolicyBundle, deadline_s: float = POLICY_LOAD_DEADLINE_S) -> BundleFacts:
        request = {"op": "load", "version": bundle.version, "files": dict(bundle.files)}
        told = ask(self._child, request, deadline_s)
        if self._child.pid != self._ready:
            self._ready = self._child.pid
            self._facts.clear()
        facts = BundleFacts(
            version=bundle.version,
            policies={entrypoint: tuple(told["policies"][entrypoint]) for entrypoint in ENTRYPOINTS},
            libraries=tuple(told["libraries"]),
            tests=told["tests"],
            titles=told["titles"],
        )
        self._facts[bundle.version] = facts
        return facts

    def close(self) -> None:
        self._child.close()

    def _timed(self, request: bytes, deadline_s: float) -> bytes:
        started = time.monotonic()
        try:
            return self._child.call(request, max(STARVED_S, PATIENCE * deadline_s), processor_s=deadline_s)
        except ChildFailed as error:
            if error.code == "process.died" and time.monotonic() - started >= deadline_s:
                raise DeadlineExceeded("process.deadline", "the kernel ended the evaluation") from None
            raise


def ask(child: KillableProcess, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:  # Any: JSON
    """Send a JSON request to an engine process.

    Raises:
        Invalid: ``policy.bundle`` when the bundle has problems or the engine cannot take it.
        Unavailable: ``policy.starved``.
    """
    try:
        answer = child.call(json.dumps(request).encode(), _LOAD_WAIT_S, processor_s=deadline_s)
        told: dict[str, Any] = json.loads(answer)
    except (DeadlineExceeded, ChildFailed) as error:
        if isinstance(error, DeadlineExceeded) and error.starved:
            raise _starved() from None
        raise Invalid(
            "policy.bundle",
            "the policies cannot be read",
            subject="policy bundle",
            got=error.message[:300],
            hint="make them smaller, less deeply nested or faster",
        ) from None
    if "problems" in told:
        problems = [_problem(item) for item in told["problems"][:MAX_VERDICT_REASONS]]
        raise Invalid(
            "policy.bundle", "the policies are not right", subject="policy bundle", problems=problems
        )
    return told


def _problem(item: dict[str, Any]) -> Problem:  # Any: JSON
    place = f"{item['path']}:{item['line']}:{item['col']}: " if item["line"] else ""
    pointer = "/files/" + item["path"].replace("~", "~0").replace("/", "~1") if item["path"] else "/files"
    return Problem(pointer, place + item["message"], hint=item["hint"], code="policy.source")


def _verdict(answer: Any, input: Mapping[str, Any], duration_us: int) -> Verdict:  # Any: JSON
    denials: list[Reason] = []
    excluded: list[Reason] = []
    for package, sets in answer.items():
        denials += [_reason(package, item) for item in sets.get("deny", ())]
        for item in sets.get("exclude", ()):
            reason = _reason(package, item, backend=True)
            (excluded if reason.backend else denials).append(reason)
    if not _left(input.get("candidates"), {reason.backend for reason in excluded}):
        denials += excluded or [_UNNAMED]  # what excluded the backends is why
    denials.sort(key=_order)
    excluded.sort(key=_order)
    return Verdict(
        not denials, tuple(denials[:MAX_VERDICT_REASONS]), tuple(excluded), tuple(sorted(answer)), duration_us
    )


def _left(candidates: Any, out: set[str | None]) -> bool:  # Any: JSON
    """Tell whether a candidate is left. Without candidates there was no choice: routing has said why."""
    if not candidates:
        return True
    names = (
        [item.get("backend") for item in candidates if isinstance(item, dict)]
        if isinstance(candidates, list)
        else []
    )
    return any(isinstance(name, str) and name not in out for name in names)


def _reason(
    package: str, item: Any, *, backend: bool = False
) -> Reason:  # Any: whatever a policy put into its set
    """Read an element of ``deny`` or ``exclude``; one of another shape still denies, in its own text."""
    if not isinstance(item, dict):
        return Reason(package, "policy.denied", _text(item))
    name = item.get("backend") if backend else None
    return Reason(
        policy=package,
        code=_text(item.get("code") or "policy.denied")[:100],
        message=_text(item.get("message") or item),
        hint=_text(item.get("hint") or ""),
        backend=name if isinstance(name, str) and name else None,
    )


def _text(value: Any) -> str:  # Any: JSON
    return (value if isinstance(value, str) else json.dumps(value))[:1000]


def _order(reason: Reason) -> tuple[str, str, str, str]:
    return reason.policy, reason.code, reason.backend or "", reason.message


def _failure(code: str, message: str, duration_us: int) -> Verdict:
    hint = "tell whoever activated this policy bundle; the decision's record names its version"
    return Verdict(False, (Reason(ENGINE, code, message, hint),), (), (), duration_us)


def _starved() -> Unavailable:
    return Unavailable(
        "policy.starved",
        "the machine had no processor time for the policy engine; nothing was decided",
        hint="try again; if it happens often, the machine is too busy",
        retry_after_s=1.0,
    )


def _since(started: int) -> int:
    return (time.perf_counter_ns() - started) // 1000
