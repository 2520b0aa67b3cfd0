"""Write docs/reference/errors.md from the source: ``python docs/tools/errors.py > docs/reference/errors.md``.

Every error has a stable code. They are found by reading the syntax of ``src``: calls of the eight families with a literal code, calls of
functions that hand a code on to them, members ``code`` of problems, and the reasons of the shipped policies.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "qcos"
FAMILIES = {
    "Invalid": "invalid",
    "NotFound": "not_found",
    "Conflict": "conflict",
    "Denied": "denied",
    "Limit": "limit",
    "Unavailable": "unavailable",
    "DriverError": "driver",
    "Integrity": "integrity",
    "QcosError": "error",
}
CODE = re.compile(r"[a-z][a-z_]*\.[a-z0-9_]+")
TUPLES = {
    "routing/constrain.py": "dropped",
    "jobs/admit.py": "conflict",
}  # modules where (code, text) travel as a pair
HEAD = """\
# Error codes

Every error has a stable code. The prefix names the part, the family says what to do; messages may change, codes do not. This page is
written by `python docs/tools/errors.py` from the source; a test compares the two.

| family | what to do | HTTP status |
|---|---|---|
| `invalid` | the input is wrong: change it | 400 |
| `not_found` | there is no such object, or not for this tenant | 404 |
| `conflict` | the object is in another state: look again | 409 |
| `denied` | authentication (`auth.*`, 401) or policy says no | 403 |
| `limit` | a stated limit is reached: ask for less | 422; 413 for codes that end in `.size` |
| `unavailable` | something is not there now: try again, after `Retry-After` if given | 503 |
| `driver` | a vendor's runtime failed or refused | 502 |
| `integrity` | something signed, hashed or counted does not agree: do not trust it, tell an administrator | 500 |

Over HTTP an error is a problem document (RFC 9457): `type` (`urn:qcos:problem:<code>`), `title`, `status`, `detail`, and `family`,
`code`, `message`, `subject`, `expected`, `got`, `hint`, `problems`. When a job is denied, `decision` holds every reason.

Below, `reason` means that a policy gives the code in a decision, `problem` that it stands in the list `problems` of another error or in the
report of a check, `dropped` that routing gives it for a backend. Codes of policies you write yourself are yours.
"""


@dataclass(frozen=True, order=True)
class Found:
    """One place that gives a code."""

    code: str
    family: str
    message: str
    module: str


def text_of(node: ast.expr | None) -> str:
    """Return a string literal, with ``…`` where values are filled in; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (text_of(node.left) or "…") + (text_of(node.right) or "…")
    return ""


def name_of(call: ast.Call) -> str:
    """Return the last name of what is called."""
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else getattr(function, "attr", "") if function else ""
    )


@dataclass(frozen=True)
class Maker:
    """A function whose argument becomes the code of an error."""

    family: str
    position: int
    argument: str
    message: int | None
    prefix: str = ""


def argument(call: ast.Call, position: int | None, name: str) -> ast.expr | None:
    """Return an argument given by position or by name."""
    if position is not None and position < len(call.args):
        return call.args[position]
    return next((k.value for k in call.keywords if k.arg == name), None)


def choices(node: ast.expr | None) -> Iterator[str]:
    """Return the codes an expression may be."""
    if isinstance(node, ast.IfExp):
        yield from choices(node.body)
        yield from choices(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from choices(value)
    elif isinstance(node, ast.Call) and name_of(node) == "getattr" and len(node.args) == 3:
        yield from choices(node.args[2])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def makers_of(trees: dict[str, ast.Module]) -> dict[str, Maker]:
    """Return the families, their subclasses, and the functions that hand a code on to them or to each other."""
    known = {name: Maker(family, 0, "code", 1) for name, family in FAMILIES.items()}
    known["Reason"] = Maker("reason", 1, "code", 2)
    known["problem"] = Maker("problem", 0, "code", 2)  # of ledger/fsck.py
    while True:
        before = len(known)
        for node in (n for tree in trees.values() for n in ast.walk(tree)):
            if isinstance(node, ast.ClassDef):
                bases = [known[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in known]
                if bases and node.name not in known:
                    known[node.name] = bases[0]
            elif isinstance(node, ast.FunctionDef) and node.name not in known and node.name != "__init__":
                made = _maker(node, known)
                if made is not None:
                    known[node.name] = made
        if len(known) == before:
            return known


def _maker(function: ast.FunctionDef, known: dict[str, Maker]) -> Maker | None:
    parameters = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
    for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
        inner = known.get(name_of(call))
        if inner is None:
            continue
        code = argument(call, inner.position, inner.argument)
        code, prefix = _behind_prefix(code)
        if isinstance(code, ast.Name) and code.id in parameters:
            said = argument(call, inner.message, "message")
            message = (
                parameters.index(said.id) if isinstance(said, ast.Name) and said.id in parameters else None
            )
            return Maker(inner.family, parameters.index(code.id), code.id, message, prefix or inner.prefix)
    return None


def _behind_prefix(code: ast.expr | None) -> tuple[ast.expr | None, str]:
    """Return ``code`` and ``timestamp.`` for ``f"timestamp.{code}"``."""
    if (
        isinstance(code, ast.JoinedStr)
        and len(code.values) == 2
        and isinstance(code.values[1], ast.FormattedValue)
    ):
        return code.values[1].value, text_of(code.values[0])
    return code, ""


def in_source() -> Iterator[Found]:
    """Return every code that the Python source gives."""
    trees = {
        str(p.relative_to(SOURCE)): ast.parse(p.read_text("utf-8")) for p in sorted(SOURCE.rglob("*.py"))
    }
    makers = makers_of(trees)
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from _in_class(node, makers, module)
            elif isinstance(node, ast.Call):
                yield from _in_call(node, makers, module)
            elif isinstance(node, ast.FunctionDef) and node.name in makers:
                yield from _in_default(node, makers[node.name], module)
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and module in TUPLES:
                yield from _found([node.elts[0]], TUPLES[module], text_of(node.elts[1]), module)
            elif isinstance(node, ast.Dict) and module.startswith("drivers/"):
                given = {text_of(key): value for key, value in zip(node.keys, node.values, strict=True)}
                yield from _found([given.get("code")], "driver", text_of(given.get("message")), module)


def _found(
    nodes: Sequence[ast.expr | None], family: str, message: str, module: str, prefix: str = ""
) -> Iterator[Found]:
    for code in (prefix + choice for node in nodes for choice in choices(node)):
        if CODE.fullmatch(code):
            yield Found(code, family, message, module)


def _in_call(call: ast.Call, makers: dict[str, Maker], module: str) -> Iterator[Found]:
    name = name_of(call)
    if name in makers:
        maker = makers[name]
        said = text_of(argument(call, maker.message, "message"))
        code = argument(call, maker.position, maker.argument)
        yield from _found([code], maker.family, said, module, maker.prefix)
    elif name in ("Problem", "Dropped", "Check", "Finding"):
        kind = "dropped" if name == "Dropped" else "problem"
        given = [*call.args, *(k.value for k in call.keywords if k.arg == "code")]
        yield from _found(given, kind, _longest(call), module)


def _in_class(node: ast.ClassDef, makers: dict[str, Maker], module: str) -> Iterator[Found]:
    """Return the code that a subclass of a family gives itself."""
    if node.name in makers:
        for call in (n for n in ast.walk(node) if isinstance(n, ast.Call) and name_of(n) == "__init__"):
            yield from _found(call.args[:1], makers[node.name].family, _longest(call), module)


def _in_default(function: ast.FunctionDef, maker: Maker, module: str) -> Iterator[Found]:
    """Return the code a function hands on when it is given none."""
    arguments = function.args
    for parameter, default in zip(
        arguments.args[len(arguments.args) - len(arguments.defaults) :], arguments.defaults, strict=True
    ):
        if parameter.arg == maker.argument:
            yield from _found([default], maker.family, "", module)


def _longest(call: ast.Call) -> str:
    texts = [text_of(a) for a in call.args]
    return max((t for t in texts if " " in t), key=len, default="")


def in_policies() -> Iterator[Found]:
    """Return every code that the shipped policies give."""
    for path in sorted((SOURCE / "policy" / "shipped").rglob("*.rego")):
        if path.name.endswith("_test.rego"):
            continue
        text = path.read_text("utf-8")
        for found in re.finditer(
            r'"code": "([a-z_]+\.[a-z_]+)",\s*"message": [^"]*"((?:[^"\\]|\\.)*)"', text
        ):
            said = re.sub(r"%[dsvq]", "…", found.group(2).replace('\\"', ""))
            yield Found(found.group(1), "reason", said, str(path.relative_to(SOURCE)))


def every() -> list[Found]:
    """Return all, in order."""
    return sorted({*in_source(), *in_policies()})


def document() -> str:
    """Return the whole page."""
    parts = [HEAD]
    grouped: dict[str, dict[str, list[Found]]] = {}
    for found in every():
        grouped.setdefault(found.code.split(".")[0], {}).setdefault(found.code, []).append(found)
    for prefix in sorted(grouped):
        rows = [
            "| `{}` | {} | {} |".format(
                code,
                ", ".join(sorted({f.family for f in places})),
                _cell("; ".join(dict.fromkeys(f.message for f in places if f.message))),
            )
            for code, places in sorted(grouped[prefix].items())
        ]
        parts.append(
            f"\n## {prefix}\n\n| code | family | message |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")[:300]


if __name__ == "__main__":
    sys.stdout.write(document())
