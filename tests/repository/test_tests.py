"""The tests test: each can fail, none depends on how fast the machine is, and each requirement has one that names it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from .tree import ROOT, TESTS, Function, functions, modules, parsed, place, told

# What stands so far; a requirement enters this list with the change that fulfils it.
REQUIREMENTS = {
    *(f"R1.{n}" for n in range(1, 8)),
    *(f"R2.{n}" for n in range(1, 4)),
    *(f"R3.{n}" for n in range(2, 7)),
    *("R4.1", "R4.2", "R5.1", "R5.3", "R5.4", "R5.5", "R6.1"),
    *(f"R7.{n}" for n in range(1, 4)),
    *(f"R8.{n}" for n in range(2, 11)),
}
CLOCKS = {
    "time",
    "monotonic",
    "perf_counter",
    "process_time",
    "thread_time",
    "monotonic_ns",
    "perf_counter_ns",
    "time_ns",
}


def _tests() -> Iterator[tuple[Path, Function]]:
    for file in modules(TESTS):
        if file.name.startswith("test_"):
            yield from ((file, node) for node in functions(file) if node.name.startswith("test_"))


# Every test can fail


def _called(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            match inner.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name


def _asserts(node: ast.AST) -> bool:
    """Whether the code itself may fail a test: a real assertion, an expected exception, a deliberate failure."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assert) and not isinstance(inner.test, ast.Constant):
            return True
        if isinstance(inner, ast.Raise) and "AssertionError" in ast.unparse(inner):
            return True
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) in (
            "pytest.raises",
            "pytest.fail",
            "pytest.warns",
        ):
            return True
    return False


@functools.cache
def _checkers() -> frozenset[str]:
    """Return the names of the functions under tests/ that assert, themselves or through one another."""
    bodies: dict[str, list[Function]] = {}
    for file in modules(TESTS):
        for node in functions(file):
            if not node.name.startswith("test_"):
                bodies.setdefault(node.name, []).append(node)
    known = {name for name, nodes in bodies.items() if any(map(_asserts, nodes))}
    while more := {
        name
        for name, nodes in bodies.items()
        if name not in known and any(known & set(_called(node)) for node in nodes)
    }:
        known |= more
    return frozenset(known)


def test_every_test_can_fail() -> None:
    """An assertion of its own, or a call of a function under tests/ that has one."""
    idle = [
        f"{place(file, node.lineno)} {node.name}"
        for file, node in _tests()
        if not _asserts(node) and not _checkers() & set(_called(node))
    ]
    assert not idle, told(idle, "Say with an assertion what must hold.")


def test_no_assertion_is_always_true() -> None:
    empty = [
        place(file, node.lineno)
        for file in modules(TESTS)
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Assert) and _always(node.test)
    ]
    assert not empty, told(empty, "Compare with the value that is expected.")


def _always(test: ast.expr) -> bool:
    match test:
        case ast.Constant(value=value):
            return bool(value)
        case ast.Tuple(elts=elements):
            return bool(elements)  # assert (x, "message") is the old trap
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_always(value) for value in values)
        case ast.Compare(left=left, comparators=[right]):
            return ast.dump(left) == ast.dump(right) and not any(
                isinstance(n, ast.Call) for n in ast.walk(test)
            )
        case _:
            return False


def test_no_two_tests_of_a_file_have_one_name() -> None:
    """The second would silently replace the first."""
    twice = []
    for file in modules(TESTS):
        seen: set[str] = set()
        for node in parsed(file).body:
            if isinstance(node, Function) and node.name.startswith("test_"):
                twice += [f"{place(file, node.lineno)} {node.name}"] * (node.name in seen)
                seen.add(node.name)
    assert not twice, told(twice, "Rename one.")


# None depends on how fast the machine is


def _reads_clock(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            match inner.func:
                case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in CLOCKS:
                    return True
                case ast.Name(id=name) if name in CLOCKS - {"time"}:
                    return True
    return False


def _timed(function: Function) -> Iterator[int]:
    """Return the lines of assertions about elapsed time.

    A difference of clock readings that an assertion compares. `assert monotonic() < end` in a loop is no such thing: it
    ends a wait for something that never comes, with a message, long after any machine would have done it.
    """
    readings = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _reads_clock(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    waits = {
        id(inner)
        for loop in ast.walk(function)
        if isinstance(loop, ast.While | ast.For)
        for inner in ast.walk(loop)
    }
    for node in ast.walk(function):
        if not isinstance(node, ast.Assert):
            continue
        names = {inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)}
        compares = any(
            isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
            for inner in ast.walk(node.test)
            if isinstance(inner, ast.Compare)
            for operator in inner.ops
        )
        if compares and (_reads_clock(node.test) or names & readings) and id(node) not in waits:
            yield node.lineno


def test_no_test_asserts_on_elapsed_time() -> None:
    timed = [
        place(file, line) for file in modules(TESTS) for node in functions(file) for line in _timed(node)
    ]
    assert not timed, told(sorted(set(timed)), "Assert what happened; benchmarks/ measures how fast.")


def test_the_search_for_elapsed_time_finds_it() -> None:
    slow = "def test_x():\n    began = time.monotonic()\n    work()\n    took = time.monotonic() - began\n    assert took < 5\n"
    (function,) = ast.parse(slow).body
    assert isinstance(function, Function)
    assert list(_timed(function)) == [5]
    waiting = "def wait():\n    end = time.monotonic() + 9\n    while not done():\n        assert time.monotonic() < end\n"
    (function,) = ast.parse(waiting).body
    assert isinstance(function, Function)
    assert list(_timed(function)) == []


def test_nobody_sleeps_for_luck() -> None:
    """A sleep stands in a loop that looks again; one that stands alone hopes that enough time has passed."""
    hoping = []
    for file in modules(TESTS):
        if "children" in file.parts:  # programs that are slow on purpose
            continue
        loops = {
            id(inner)
            for loop in ast.walk(parsed(file))
            if isinstance(loop, ast.While | ast.For)
            for inner in ast.walk(loop)
        }
        for node in ast.walk(parsed(file)):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "time.sleep"
                and id(node) not in loops
            ):
                hoping.append(place(file, node.lineno))
    assert not hoping, told(hoping, "Wait for the thing itself, in a loop with an end.")


# Each requirement has a test that names it


def _named() -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    for file in modules(TESTS):
        if not file.name.startswith("test_") or file.parent == ROOT / "tests" / "repository":
            continue
        holders: list[ast.Module | Function | ast.ClassDef] = [parsed(file), *functions(file)]
        holders += [node for node in ast.walk(parsed(file)) if isinstance(node, ast.ClassDef)]
        for holder in holders:
            for requirement in re.findall(r"\bR\d+\.\d+\b", ast.get_docstring(holder) or ""):
                named.setdefault(requirement, set()).add(place(file))
    return named


def test_every_requirement_is_proved_by_a_test_that_names_it() -> None:
    missing = sorted(
        REQUIREMENTS - set(_named()), key=lambda name: [int(part) for part in name[1:].split(".")]
    )
    assert not missing, told(
        missing, "Quote the id in the docstring of the test that proves it (tests/stories)."
    )
