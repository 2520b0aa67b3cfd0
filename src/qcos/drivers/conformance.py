"""The conformance suite for drivers: what `qcos.drivers.contract` promises, tried out on a driver (R8.5).

It runs a few small circuits on the backends it is given, on real ones too: about 20 works of at most 200
shots. Write ``assert all(c.ok for c in check(driver))`` in a driver's own tests.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from qcos.backends.model import Backend
from qcos.base.canonical import canonical, digest
from qcos.base.errors import Conflict, DriverError, NotFound
from qcos.drivers.contract import FINAL, Circuit, Driver, Handle, Outcome, Work

_HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
_FLIP = _HEAD + "qubit[2] q;\nbit[2] c;\nx q[0];\nc = measure q;\n"
_BELL = (
    _HEAD + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc[0] = measure q[0];\nc[1] = measure q[1];\n"
)
_REGISTERS = (
    _HEAD + "qubit[3] q;\nbit[1] a;\nbit[2] b;\nx q[1];\na[0] = measure q[1];\nb[1] = measure q[0];\n"
)
_INPUT = _HEAD + "input float theta;\nqubit[1] q;\nbit[1] c;\nrx(theta) q[0];\nc = measure q;\n"
_MIDWAY = _HEAD + "qubit[1] q;\nbit[2] c;\nx q[0];\nc[0] = measure q[0];\nx q[0];\nc[1] = measure q[0];\n"
_BRANCH = (
    _HEAD
    + "qubit[2] q;\nbit[2] c;\nx q[0];\nc[0] = measure q[0];\nif (c[0]) { x q[1]; }\nc[1] = measure q[1];\n"
)
_RESET = _HEAD + "qubit[1] q;\nbit[1] c;\nx q[0];\nreset q[0];\nc = measure q;\n"
_QASM2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nx q[0];\nmeasure q -> c;\n'
_SHOTS = 200
_METERS = ("shots", "cpu_time_us", "memory_peak_bytes", "qpu_time_us")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise tried out.

    Attributes:
        name: What was promised.
        backend: On which backend.
        ok: It was kept.
        detail: What was seen instead, or what was refused.
    """

    name: str
    backend: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Trial:
    """A driver and one backend to try it on."""

    driver: Driver
    backend: Backend

    def work(self, *sources: str, shots: int = _SHOTS, seed: int | None = 7) -> Work:
        return Work(tuple(Circuit(source) for source in sources), shots, seed)

    def run(self, work: Work) -> Outcome:
        return self.driver.result(self.submit(work))

    def submit(self, work: Work, key: str | None = None) -> Handle:
        return self.driver.submit(self.backend.name, work, key or f"conformance-{secrets.token_hex(8)}")

    def refusal(self, work: Work) -> DriverError:
        try:
            outcome = self.run(work)
        except DriverError as error:
            return error
        raise AssertionError(f"it ran: {outcome.counts}")

    def mostly(self, outcome: Outcome, index: int, key: str) -> None:
        """The key came up in most shots; in all where there is no noise."""
        counts = outcome.counts[index]
        share = counts.get(key, 0) / sum(counts.values())
        least = 0.6 if self.backend.calibration or self.backend.kind == "qpu" else 1.0
        _hold(share >= least, f"{key} in {share:.0%} of the shots: {counts}")


def check(driver: Driver, backends: Sequence[str] | None = None) -> list[Check]:
    """Try out every promise on a driver.

    Args:
        driver: The driver.
        backends: On which of its backends; all by default.

    Returns:
        One check a promise and backend. A check that raises has failed; nothing is raised from here.
    """
    done = [_attempt("describe: facts, twice the same, unique names", "", lambda: _describe(driver))]
    chosen = [b for b in driver.describe() if backends is None or b.name in backends]
    for backend in chosen:
        trial = _Trial(driver, backend)
        done += [_attempt(name, backend.name, partial(test, trial)) for name, test in _tests()]
    return done


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def _attempt(name: str, backend: str, test: Callable[[], str | None]) -> Check:
    try:
        return Check(name, backend, True, test() or "")
    except Exception as error:
        return Check(name, backend, False, f"{type(error).__name__}: {error}")


def _tests() -> Iterator[tuple[str, Callable[[_Trial], str | None]]]:
    yield "bits: x q[0] on two bits is 01, and registers follow each other", _bits
    yield "counts: sum to the shots, and a Bell pair agrees with itself", _bell
    yield "circuits: several give their counts in order", _circuits
    yield "parameters: bound by name; missing, unknown and infinite ones refused", _parameters
    yield "seed: given back where it repeats, None where it cannot", _seed
    yield "outcome: times, meters and JSON", _outcome
    yield (
        "provenance: toolchain, programs as executed, calibration and raw answer, or why there is none",
        _record,
    )
    yield "key: the same gives the same handle and one execution, other work is refused", _key
    yield "find: a known key gives its handle, an unknown one None", _find
    yield "handle: survives JSON; a strange one is not found", _handle
    yield "observe: ends in a final state that stays", _observe
    yield "cancel: a cancelled run has no outcome, an ended one cannot be cancelled", _cancel
    yield "refusals: backend, shots, circuits, options and sources by name", _refusals
    yield "features: mid-circuit measurement, reset and branching run right or are refused by name", _features
    yield "formats: every language described is taken", _formats
    yield "estimate: a bound that grows with the shots", _estimate


def _describe(driver: Driver) -> None:
    backends = driver.describe()
    _hold(bool(backends), "no backend is described")
    _hold(list(backends) == list(driver.describe()), "two descriptions differ")
    names = [b.name for b in backends]
    _hold(len(set(names)) == len(names), f"a name stands twice: {names}")
    _hold(all(b.driver == driver.name for b in backends), "a backend names another driver")
    json.dumps([b.as_dict() for b in backends])


def _bits(trial: _Trial) -> None:
    outcome = trial.run(trial.work(_FLIP, _REGISTERS))
    trial.mostly(outcome, 0, "01")
    trial.mostly(outcome, 1, "001")


def _bell(trial: _Trial) -> None:
    counts = trial.run(trial.work(_BELL)).counts[0]
    _hold(sum(counts.values()) == _SHOTS, f"{sum(counts.values())} counts of {_SHOTS} shots")
    same = counts.get("00", 0) + counts.get("11", 0)
    _hold(
        same >= 0.7 * _SHOTS and min(counts.get("00", 0), counts.get("11", 0)) > 0, f"no Bell pair: {counts}"
    )
    single = trial.run(trial.work(_BELL, shots=1)).counts[0]
    _hold(sum(single.values()) == 1, f"one shot gave {single}")


def _circuits(trial: _Trial) -> None:
    outcome = trial.run(trial.work(_FLIP, _REGISTERS, _FLIP))
    _hold([len(next(iter(c))) for c in outcome.counts] == [2, 3, 2], f"out of order: {outcome.counts}")
    _hold(outcome.shots_executed == 3 * _SHOTS, f"{outcome.shots_executed} shots executed of {3 * _SHOTS}")


def _parameters(trial: _Trial) -> None:
    def turned(**parameters: float) -> Work:
        return Work((Circuit(_INPUT, "QASM3", parameters),), _SHOTS, 7)

    trial.mostly(trial.run(turned(theta=3.141592653589793)), 0, "1")
    trial.mostly(trial.run(turned(theta=0.0)), 0, "0")
    for wrong in (turned(), turned(theta=0.0, phi=0.0), turned(theta=float("inf"))):
        error = trial.refusal(wrong)
        _hold(error.code == "driver.parameters", f"{wrong.circuits[0].parameters} gave {error.code}")


def _seed(trial: _Trial) -> str:
    first, second = (trial.run(trial.work(_BELL, _BELL)) for _ in range(2))
    drawn = trial.run(trial.work(_BELL, seed=None))
    if not trial.driver.repeatable:
        _hold(first.seed is None and drawn.seed is None, f"a seed is claimed: {first.seed}, {drawn.seed}")
        return "not repeatable"
    _hold(first.seed == 7 and first.counts == second.counts, f"{first.counts} is not {second.counts}")
    _hold(drawn.seed is not None, "a seed was drawn and not told")
    again = trial.run(trial.work(_BELL, seed=drawn.seed))
    _hold(again.counts == drawn.counts, f"the drawn seed gave {drawn.counts}, then {again.counts}")
    return "repeatable"


def _outcome(trial: _Trial) -> str:
    outcome = trial.run(trial.work(_BELL))
    _hold(outcome.started <= outcome.ended and outcome.started.tzinfo is not None, "times out of order")
    _hold(
        outcome.queue_ms >= 0 and outcome.compiled_depth >= 1 and bool(outcome.compiler),
        "something is missing",
    )
    _hold(
        all(type(v) is int and v >= 0 for v in outcome.meters.values()),
        f"meters are no counts: {outcome.meters}",
    )
    _hold(set(outcome.meters) <= set(_METERS), f"unknown meters: {outcome.meters}")
    _hold(outcome.meters.get("shots") == _SHOTS, f"shots are not metered: {outcome.meters}")
    canonical(outcome.metadata)
    return ", ".join(sorted(outcome.meters))


def _record(trial: _Trial) -> str:
    plain = trial.work(_BELL, _FLIP)
    _hold(trial.run(plain).provenance is None, "a full record that nobody asked for")
    outcome = trial.run(replace(plain, provenance=True))
    told = outcome.provenance
    if told is None:
        raise AssertionError("the full record was asked for and there is none")
    missing = [n for n in ("python", "driver", "packages", "seeds", "settings") if n not in told.toolchain]
    _hold(not missing, f"the toolchain lacks {', '.join(missing)}")
    _hold(bool(told.toolchain["packages"]), "the toolchain names no package")
    canonical([dict(told.toolchain), dict(told.absent)])
    given = {"executed": told.executed, "calibration": told.calibration, "response": told.response}
    for name, document in given.items():
        reason = told.absent.get(name, "")
        _hold(bool(document) != bool(reason), f"{name}: neither there nor absent for a reason, or both")
    _hold(len(told.executed) in (0, 2), f"{len(told.executed)} programs executed of 2")
    for one in (*told.executed, told.calibration, told.response):
        whole = one is None or one.data is None or (one.digest, one.size) == (digest(one.data), len(one.data))
        _hold(whole, "a document is not what its digest says")
    if trial.driver.repeatable:
        again = trial.run(replace(plain, provenance=True))
        digests = [[one.digest for one in run.executed] for run in (told, again.provenance or told)]
        _hold(digests[0] == digests[1], "the same programs were executed, and told differently")
        _hold(again.counts == outcome.counts == trial.run(plain).counts, "telling changes the counts")
    return "; ".join(f"no {name}: {reason}" for name, reason in told.absent.items())


def _key(trial: _Trial) -> None:
    key, work = f"conformance-{secrets.token_hex(8)}", trial.work(_BELL)
    handle = trial.submit(work, key)
    _hold(trial.submit(work, key) == handle, "a second handle while it runs")
    outcome = trial.driver.result(handle)
    _hold(trial.submit(work, key) == handle, "a second handle after it ran")
    _hold(trial.driver.result(handle) == outcome, "a second execution")
    try:
        trial.submit(trial.work(_FLIP), key)
    except Conflict as error:
        _hold(error.code == "driver.key", f"refused as {error.code}")
    else:
        raise AssertionError("the key was taken for other work")


def _find(trial: _Trial) -> None:
    key = f"conformance-{secrets.token_hex(8)}"
    _hold(trial.driver.find(trial.backend.name, key) is None, "a key never used was found")
    handle = trial.submit(trial.work(_FLIP), key)
    _hold(trial.driver.find(trial.backend.name, key) == handle, "the key was not found while it runs")
    trial.driver.result(handle)
    _hold(trial.driver.find(trial.backend.name, key) == handle, "the key was not found after it ran")


def _handle(trial: _Trial) -> None:
    handle = trial.submit(trial.work(_FLIP))
    copy = Handle.from_dict(json.loads(json.dumps(handle.as_dict())))
    _hold(trial.driver.result(copy) == trial.driver.result(handle), "a handle written down is another")
    try:
        trial.driver.observe(Handle(trial.backend.name, "no-such-run"))
    except NotFound as error:
        _hold(error.code == "driver.handle", f"a strange handle gave {error.code}")
    else:
        raise AssertionError("a strange handle was found")


def _observe(trial: _Trial) -> None:
    handle = trial.submit(trial.work(_BELL))
    _hold(trial.driver.observe(handle).state in ("queued", "running", "done"), "a state out of order")
    trial.driver.result(handle)
    _hold({trial.driver.observe(handle).state for _ in range(2)} == {"done"}, "an ended run is not done")


def _cancel(trial: _Trial) -> str:
    ended = trial.submit(trial.work(_FLIP))
    trial.driver.result(ended)
    _hold(not trial.driver.cancel(ended), "an ended run was cancelled")
    handle = trial.submit(trial.work(*[_BELL] * min(20, trial.backend.max_circuits)))
    if not trial.driver.cancel(handle):
        trial.driver.result(handle)
        return "not in time"
    _hold(trial.driver.cancel(handle), "a cancelled run is no longer")
    try:
        trial.driver.result(handle)
    except DriverError as error:
        _hold(error.code == "driver.cancelled", f"the cancelled run ended as {error.code}")
    else:
        raise AssertionError("the cancelled run has an outcome")
    _hold(trial.driver.observe(handle).state == "cancelled", "it is not observed as cancelled")
    trial.mostly(trial.run(trial.work(_FLIP)), 0, "01")  # and the next one runs
    return "cancelled"


def _refusals(trial: _Trial) -> None:
    backend, flip = trial.backend, Circuit(_FLIP)
    wide = f"{_HEAD}qubit[{backend.qubits + 1}] q;\nbit[{backend.qubits + 1}] c;\nh q;\nc = measure q;\n"
    refused = {
        "driver.shots": [Work((flip,), 0), Work((flip,), backend.max_shots + 1)],
        "driver.circuits": [Work((), 1), Work((flip,) * (backend.max_circuits + 1), 1)],
        "driver.option": [Work((flip,), 1, None, {"no such option": 1})],
        "driver.source": [trial.work("OPENQASM 3.0;\nqubit[2] q;\nnosuchgate q[0];\n")],
        "driver.qubits": [trial.work(wide)],
        "driver.unsupported": [
            trial.work(_HEAD + "qubit[1] q;\nx q[0];\n"),
            Work((Circuit(_FLIP, "QIR"),), 1),
        ],
    }
    for code, works in refused.items():
        for work in works:
            error = trial.refusal(work)
            _hold(error.code == code, f"{error.code} instead of {code}: {error}")
    try:
        trial.driver.submit("no-such-backend", trial.work(_FLIP), "k")
    except DriverError as error:
        _hold(error.code == "driver.backend", f"an unknown backend gave {error.code}")
    else:
        raise AssertionError("an unknown backend took work")


def _features(trial: _Trial) -> str:
    seen: list[str] = []
    for name, source, right in (("midway", _MIDWAY, "01"), ("branch", _BRANCH, "11"), ("reset", _RESET, "0")):
        work = trial.work(source)
        handle = None
        try:
            handle = trial.submit(work)
            outcome = trial.driver.result(handle)
        except DriverError as error:
            _hold(error.code == "driver.unsupported" and bool(error.subject), f"{name} failed: {error}")
            _hold(
                handle is None or trial.driver.observe(handle).state in FINAL,
                f"{name} was refused and goes on",
            )
            seen.append(f"{name} refused")
        else:
            trial.mostly(outcome, 0, right)
            seen.append(f"{name} runs")
    return ", ".join(seen)


def _formats(trial: _Trial) -> None:
    for format in trial.backend.formats:
        source = {"QASM3": _FLIP, "QASM2": _QASM2}[format]
        trial.mostly(trial.run(Work((Circuit(source, format),), _SHOTS, 7)), 0, "01")


@dataclass(frozen=True, slots=True)
class _Facts:
    qubits: int
    size: int


def _estimate(trial: _Trial) -> None:
    facts = _Facts(qubits=2, size=4)
    bounds = [
        trial.driver.estimate(
            trial.backend.name, [facts] * circuits, trial.work(*[_BELL] * circuits, shots=shots)
        )
        for circuits, shots in ((1, 1), (1, 10_000), (2, 10_000))
    ]
    seconds = [bound.seconds_us for bound in bounds]
    _hold(
        all(type(s) is int and s > 0 for s in seconds) and seconds == sorted(seconds), f"no bound: {seconds}"
    )
