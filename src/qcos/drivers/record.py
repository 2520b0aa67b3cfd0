"""The full record of a local run, gathered in the simulating process (R1.1, R12.5; evidence level ``full``).

A simulator tells what it can by attributes and methods that it may lack; what it lacks is named in the record
with the reason, never invented:

* ``packages``: names of the distributions that compiled and ran the program;
* ``language``: media type of the programs it executes;
* ``settings(backend, options)``: JSON of what else decides how a program is compiled and run;
* ``compiler_seed``: the seed of the compiler, where it has one;
* ``calibration(backend)``: the device's properties as JSON text, or None when it has none;
* ``no_calibration``: why it has none.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from qcos import __version__
from qcos.base.limits import MAX_MATERIAL_BYTES
from qcos.drivers.program import COMPILER

_ALWAYS = ("qcos", "qiskit", "numpy")
_JSON = "application/json"


class Ran(Protocol):
    """What a simulator made of one circuit; see `qcos.drivers.simulate.Ran`."""

    @property
    def executed(self) -> Any: ...  # noqa: D102 - Any: a function that gives text, or None

    @property
    def response(self) -> Any: ...  # noqa: D102 - Any: a function that gives text, or None


class _Text:
    """A document made of pieces; its pieces are let go of when it grows beyond what is kept."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0
        self._pieces: list[str] | None = []

    def add(self, piece: str) -> None:
        data = piece.encode()
        self._hash.update(data)
        self._size += len(data)
        if self._pieces is not None and self._size <= MAX_MATERIAL_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces = None

    def as_dict(self, media_type: str) -> dict[str, Any]:
        return {
            "digest": "sha256:" + self._hash.hexdigest(),
            "size": self._size,
            "media_type": media_type,
            "text": None if self._pieces is None else "".join(self._pieces),
        }


class Recorder:
    """Gathers the record of one work, circuit by circuit.

    Args:
        simulator: What runs it.
        backend: Where.
        seed: Of the first circuit.
        work: The work as the process was told it.
    """

    def __init__(self, simulator: object, backend: str, seed: int, work: Mapping[str, Any]) -> None:
        self._simulator, self._backend, self._seed, self._work = simulator, backend, seed, work
        self._executed: list[dict[str, Any]] = []
        self._response: _Text | None = None
        self._absent: dict[str, str] = {}

    def add(self, ran: Ran) -> None:
        """Add one circuit that has run."""
        self._add_executed(ran)
        if ran.response is None:
            self._absent["response"] = "the driver does not report it"
            return
        try:
            text = ran.response()
        except Exception as error:  # an answer that was good enough for counts may still not be written down
            self._absent["response"] = _cannot("its answer", error)
            return
        opening = "[" if self._response is None else ",\n"
        self._response = self._response or _Text()
        self._response.add(opening)
        self._response.add(text)

    def as_dict(self) -> dict[str, Any]:
        """Return the record, ready for JSON."""
        response = self._response
        if response is not None:
            response.add("]\n")
        if "executed" in self._absent:
            self._executed = []  # of some circuits is of none: evidence names them by number
        return {
            "toolchain": self._toolchain(),
            "executed": self._executed,
            "calibration": self._calibration(),
            "response": response.as_dict(_JSON) if response and "response" not in self._absent else None,
            "absent": self._absent,
        }

    def _add_executed(self, ran: Ran) -> None:
        if ran.executed is None:
            self._absent["executed"] = "the driver does not report it"
            return
        try:
            text = ran.executed()
        except Exception as error:  # an SDK that runs a program may not be able to write it down
            self._absent["executed"] = _cannot("the program", error)
            return
        document = _Text()
        document.add(text)
        self._executed.append(document.as_dict(getattr(self._simulator, "language", "text/plain")))

    def _calibration(self) -> dict[str, Any] | None:
        give = getattr(self._simulator, "calibration", None)
        text = give(self._backend) if give is not None else None
        if text is None:
            default = "the driver does not report it" if give is None else "the backend has none"
            self._absent["calibration"] = getattr(self._simulator, "no_calibration", default)
            return None
        document = _Text()
        document.add(text)
        return document.as_dict(_JSON)

    def _toolchain(self) -> dict[str, Any]:
        simulator = self._simulator
        settings = getattr(simulator, "settings", None)
        seeded = bool(getattr(simulator, "seeded", False))
        return {
            "python": _python(),
            "packages": _versions((*_ALWAYS, *getattr(simulator, "packages", ()))),
            "compiler": COMPILER,
            "runtime": getattr(simulator, "runtime", ""),
            "seeds": {
                "simulator": self._seed if seeded else None,
                "rule": "circuit i is run with seed + i, modulo 2^31"
                if seeded
                else "the simulator takes none",
                "transpiler": getattr(simulator, "compiler_seed", None),
            },
            "settings": settings(self._backend, self._work["options"]) if settings is not None else {},
        }


def _cannot(what: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    return f"the SDK cannot write {what} down: {type(error).__name__}: {said}"


@cache
def _python() -> dict[str, str]:
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


@cache
def _versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the distributions that are installed where this runs."""
    found = {}
    for name in sorted(set(names)):
        try:
            found[name] = __version__ if name == "qcos" else version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
