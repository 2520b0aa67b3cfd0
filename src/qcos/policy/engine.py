"""The policy engine's process, ``python -m qcos.policy.engine``; `evaluate` and `check` speak to it.

Regorus has no limit of time or memory and holds the interpreter's lock, so it runs here, where it can be
killed. The kernel ends this process when an evaluation has used its processor time; a compiled bundle is
kept by version and cloned for each request (1 µs).

Requests: ``E <version> <entrypoint> <milliseconds>``, a line end and the input's JSON evaluate; any other
request is a JSON object with ``op``.
"""

from __future__ import annotations

import collections
import json
import re
import signal
from collections.abc import Mapping
from typing import Any

import regorus

from qcos.base.limits import MAX_VERDICT_BYTES
from qcos.base.process import serve
from qcos.policy.analyse import Findings, analyse
from qcos.policy.bundle import is_test

NOT_LOADED = b"not loaded"
KEEP = 64  # compiled bundles; about 2 MB each
MAX_PRINTS = 20  # lines of print(...) told of one test
_WRAPPER = "<engine>"
_PLACE = re.compile(r"--> ([^\n:]+):(\d+):(\d+)")
_ERROR = re.compile(r"^error: (.*)", re.DOTALL | re.MULTILINE)


def clean(text: str) -> str:
    """Return the engine's error as ``file:line:col: message``, without its native backtrace."""
    text = re.split(r"\n*Stack backtrace", text, maxsplit=1)[0].strip()
    place, error = _PLACE.search(text), _ERROR.search(text)
    message = " ".join((error[1] if error else text).split("\n-->", 1)[0].split())[:500]
    if place and place[1] != _WRAPPER:
        return f"{place[1]}:{place[2]}:{place[3]}: {message}"
    return message


_kept: collections.OrderedDict[str, Any] = (
    collections.OrderedDict()
)  # version to engine; Any: regorus has no types


def parse(files: Mapping[str, str], *, coverage: bool = False) -> tuple[Any, list[dict[str, Any]]]:
    """Return an engine that holds the files it could read, and a problem for each file it could not."""
    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.set_enable_coverage(coverage)
    problems = []
    for path, text in files.items():
        try:
            engine.add_policy(path, text)
        except RuntimeError as error:
            told = clean(str(error))
            place = re.match(r"[^\n:]+:(\d+):(\d+): (.*)", told)
            line, col, message = (int(place[1]), int(place[2]), place[3]) if place else (0, 0, told)
            problems.append({"path": path, "line": line, "col": col, "message": message, "hint": ""})
    return engine, problems


def load(version: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Compile and keep a bundle; return what it holds, or its problems.

    Tests are read and checked, but are no part of the engine that decides.
    """
    everything, problems = parse(files)
    found = analyse(json.loads(everything.get_ast_as_json())) if not problems else Findings(problems=problems)
    if found.problems:
        return {"problems": found.problems}
    engine, _ = parse({path: text for path, text in files.items() if not is_test(path)})
    try:
        engine.add_policy(_WRAPPER, wrapper(found))
        for decided in (everything, engine):  # compiles: unsafe variables, recursion
            decided.set_input_json("{}")
            decided.eval_query_as_json("1")
        engine.eval_rule_as_json("data.qcos.engine.ready")
    except RuntimeError as error:
        return {"problems": [_told(clean(str(error)))]}
    _kept[version] = engine
    _kept.move_to_end(version)
    while len(_kept) > KEEP:
        _kept.popitem(last=False)
    return {
        "policies": {entrypoint: sorted(packages) for entrypoint, packages in found.policies.items()},
        "libraries": sorted(found.libraries),
        "tests": len(found.tests),
        "titles": found.titles,
    }


def wrapper(found: Findings) -> str:
    """Return the module that asks all packages of an entrypoint at once, at the time that the input tells.

    Pinning ``time.now_ns`` makes a decision depend on its input alone, so that it can be replayed (R3.6).
    """
    lines = ["package qcos.engine", "", "ready := true", "now := time.parse_rfc3339_ns(input.time)"]
    for entrypoint, packages in found.policies.items():
        members = []
        for package, outputs in sorted(packages.items()):
            sets = ", ".join(f'"{name}": data.{package}.{name}' for name in sorted(outputs))
            members.append(f'\t"{package}": {{{sets}}},')
        lines += [
            f"{entrypoint}_now := {{",
            *members,
            "}",
            f"{entrypoint} := answer if {{",
            f"\tanswer := data.qcos.engine.{entrypoint}_now with time.now_ns as data.qcos.engine.now",
            "}",
        ]
    return "\n".join(lines) + "\n"


def evaluate(request: bytes) -> bytes:
    """Answer an ``E`` request: a JSON object of package to its sets, or `NOT_LOADED`."""
    head, _, document = request.partition(b"\n")
    _, version, entrypoint, milliseconds = head.decode().split(" ")
    if version not in _kept:
        return NOT_LOADED
    _kept.move_to_end(version)
    signal.setitimer(signal.ITIMER_PROF, int(milliseconds) / 1000)  # default action: the kernel ends us
    try:
        engine = _kept[version].clone()
        engine.set_input_json(document.decode())
        answer: bytes = engine.eval_rule_as_json(f"data.qcos.engine.{entrypoint}").encode()
    except RuntimeError as error:
        raise ValueError(clean(str(error))) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if answer == b'"<undefined>"':
        raise ValueError("the input does not tell its time")
    if len(answer) > MAX_VERDICT_BYTES:
        raise ValueError(f"the policies answer {len(answer)} bytes, more than {MAX_VERDICT_BYTES}")
    return answer


def test(files: Mapping[str, str]) -> dict[str, Any]:
    """Run every rule ``test_*`` of the bundle's ``*_test`` packages; return results and line coverage."""
    engine, problems = parse(files, coverage=True)
    found = analyse(json.loads(engine.get_ast_as_json())) if not problems else Findings(problems=problems)
    if found.problems:
        return {"problems": found.problems}
    engine.set_input_json("{}")
    results = []
    for name in sorted(set(found.tests)):
        message = ""
        try:
            value = json.loads(engine.eval_rule_as_json(f"data.{name}"))
            if value is not True:
                message = "undefined" if value == "<undefined>" else f"is {json.dumps(value)[:200]}, not true"
        except RuntimeError as error:
            message = clean(str(error))
        prints = [line[:500] for line in engine.take_prints()[:MAX_PRINTS]]
        results.append({"name": name, "passed": not message, "message": message, "prints": prints})
    report = json.loads(engine.get_coverage_report_as_json())
    coverage = [
        {"path": file["path"], "covered": file["covered"], "not_covered": file["not_covered"]}
        for file in report["files"]
        if not is_test(file["path"])
    ]
    return {"results": results, "coverage": coverage}


def _told(text: str) -> dict[str, Any]:
    place = re.match(r"([^\n:]+):(\d+):(\d+): (.*)", text)
    if not place:
        return {"path": "", "line": 0, "col": 0, "message": text, "hint": ""}
    return {"path": place[1], "line": int(place[2]), "col": int(place[3]), "message": place[4], "hint": ""}


def handle(request: bytes) -> bytes:
    """Answer one request."""
    if request.startswith(b"E "):
        return evaluate(request)
    asked = json.loads(request)
    if asked["op"] == "load":
        return json.dumps(load(asked["version"], asked["files"])).encode()
    if asked["op"] == "test":
        return json.dumps(test(asked["files"])).encode()
    return b"ready"


if __name__ == "__main__":
    serve(handle)
