"""The exact shape of a bundle, and where two JSON values differ; both speak in JSON pointers (RFC 6901)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from qcos.base.canonical import loads_strict
from qcos.base.errors import Integrity, Problem, QcosError
from qcos.base.limits import MAX_BUNDLE_BYTES

MAX_PROBLEMS: Final = 20  # differences listed; more tell nobody more
_SHOWN: Final = 80  # characters of a value in a message
_BEFORE: Final = 20  # of them before the place where two long texts part

SHAPE: Final[Mapping[str, Any]] = {  # Any: a shape is a type, a list of one shape, or members
    "bundle_id": str,
    "job_id": str,
    "input_hash": str,
    "output_hash": str,
    "execution_metadata": {
        "backend": str,
        "start_time": str,
        "end_time": str,
        "shots_executed": int,
        "queue_time_ms": int,
    },
    "governance_record": {
        "actor": str,
        "project": str,
        "policies_applied": [str],
        "policy_decisions": [str],
    },
    "signatures": {"qcos_signature": str, "timestamp_authority": str},
    "proof": {
        "envelope": {
            "payload": str,
            "payloadType": str,
            "signatures": [{"keyid": str, "sig": str}],
        },
        "timestamp": str,
        "ledger": None,  # null, or _LEDGER
    },
}
_LEDGER: Final[Mapping[str, Any]] = {
    "record": str,
    "index": int,
    "size": int,
    "hashes": [str],
    "checkpoint": str,
    "tlogProof": str,
}
_DECISION: Final[Mapping[str, Any]] = {"record": str, "index": int, "hashes": [str]}
_OPTIONAL: Final[Mapping[str, Any]] = {"/proof/decision": _DECISION, "/proof/evidenceRecord": str}
"""Members that may be missing: JSON pointer to shape."""


def read_bundle(given: bytes | str | Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON from anybody
    """Read a bundle and demand its exact shape: Listing 2 and ``proof``, no member more or less but `_OPTIONAL`.

    Raises:
        Integrity: ``evidence.document`` with every place that is wrong.
    """
    if isinstance(given, Mapping):
        try:
            given = json.dumps(given, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise Integrity("evidence.document", "the bundle is not JSON", got=str(error)[:100]) from None
    if len(given) > MAX_BUNDLE_BYTES:
        raise Integrity(
            "evidence.document", "the bundle is too long", expected=f"at most {MAX_BUNDLE_BYTES} bytes"
        )
    try:
        bundle = loads_strict(given, subject="evidence bundle")
    except QcosError as error:
        raise Integrity(
            "evidence.document",
            f"the bundle is not JSON: {error.message.removeprefix('not JSON: ')}",
            got=error.got,
        ) from None
    problems: list[Problem] = []
    _match(SHAPE, bundle, "", problems)
    if not problems and bundle["proof"]["ledger"] is not None:
        _match(_LEDGER, bundle["proof"]["ledger"], "/proof/ledger", problems)
    if problems:
        raise Integrity("evidence.document", problems[0].message, problems=problems)
    result: dict[str, Any] = bundle
    return result


def demand_equal(expected: Any, got: Any, code: str, message: str) -> None:  # Any: any JSON value
    """Demand that two JSON values are the same, types included (``1`` is not ``1.0`` nor ``true``).

    Raises:
        Integrity: With every place that differs, and what was expected and got there.
    """
    problems: list[Problem] = []
    _differ(expected, got, "", problems)
    if problems:
        raise Integrity(code, message, problems=problems)


def _match(shape: Any, value: Any, pointer: str, problems: list[Problem]) -> None:  # Any: see SHAPE; JSON
    if len(problems) >= MAX_PROBLEMS or shape is None:
        return
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            problems.append(_problem(pointer, "not an object", "an object", value))
            return
        for name in value:
            if (optional := _OPTIONAL.get(f"{pointer}/{name}")) is not None:
                _match(optional, value[name], f"{pointer}/{name}", problems)
            elif name not in shape:
                problems.append(
                    _problem(
                        f"{pointer}/{_escape(name)}",
                        "a member that does not belong here",
                        "none",
                        value[name],
                    )
                )
        for name, inner in shape.items():
            if name not in value:
                problems.append(Problem(f"{pointer}/{name}", "a member is missing", name, "nothing"))
            else:
                _match(inner, value[name], f"{pointer}/{name}", problems)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            problems.append(_problem(pointer, "not a list", "a list", value))
            return
        for index, item in enumerate(value):
            _match(shape[0], item, f"{pointer}/{index}", problems)
    elif type(value) is not shape:
        problems.append(_problem(pointer, "a value of the wrong type", shape.__name__, value))


def _differ(expected: Any, got: Any, pointer: str, problems: list[Problem]) -> None:  # Any: any JSON value
    if len(problems) >= MAX_PROBLEMS:
        return
    if type(expected) is not type(got):
        problems.append(_problem(pointer, "differs", _show(expected), got))
    elif isinstance(expected, dict):
        for name in [*expected, *(name for name in got if name not in expected)]:
            here = f"{pointer}/{_escape(name)}"
            if name not in got:
                problems.append(Problem(here, "is missing", _show(expected[name]), "nothing"))
            elif name not in expected:
                problems.append(_problem(here, "does not belong here", "nothing", got[name]))
            else:
                _differ(expected[name], got[name], here, problems)
    elif isinstance(expected, list):
        if len(expected) != len(got):
            problems.append(_problem(pointer, "differs", _show(expected), got))
            return
        for index, pair in enumerate(zip(expected, got, strict=True)):
            _differ(*pair, f"{pointer}/{index}", problems)
    elif expected != got:
        problems.append(Problem(pointer, "differs", *_show_both(expected, got)))


def _problem(pointer: str, message: str, expected: str, got: Any) -> Problem:  # Any: any JSON value
    return Problem(pointer, message, expected, _show(got))


def _show(value: Any) -> str:  # Any: any JSON value
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _show_both(
    expected: Any, got: Any
) -> tuple[str, str]:  # Any: two JSON values of one type, no object or list
    """Show two values that differ; long texts from a little before the place where they part."""
    if not isinstance(expected, str) or max(len(expected), len(got)) <= _SHOWN:
        return _show(expected), _show(got)
    pairs = enumerate(zip(expected, got, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(expected), len(got)))
    begin = max(0, at - _BEFORE)
    told = [f"{'...' if begin else ''}{text[begin:]}" for text in (expected, got)]
    return f"{_show(told[0])} (character {at + 1})", f"{_show(told[1])} (character {at + 1})"


def _escape(name: str) -> str:
    return name[:_SHOWN].replace("~", "~0").replace("/", "~1")
