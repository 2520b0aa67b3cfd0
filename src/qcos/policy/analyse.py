"""Read the syntax tree of a bundle: which policies it holds, and what in it must not be.

Runs in the engine's process (the tree of a hostile bundle may be deep or large). The tree is that of regorus
(`Engine.get_ast_as_json`): nodes are one-member objects named by their kind, with spans of line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from qcos.policy.builtins import ALLOWED, REFUSED
from qcos.policy.bundle import is_test

Node = dict[str, Any]  # Any: the engine's syntax tree
_POLICY = re.compile(r"qcos\.(jobs|acts)\.[a-z][a-z0-9_]{0,63}")
_LIBRARY = re.compile(r"qcos\.lib\.[a-z][a-z0-9_]{0,63}")
_TITLE = re.compile(r"#[ \t]*title:[ \t]*(.{1,200})")
PACKAGES = "qcos.jobs.<name>, qcos.acts.<name> or qcos.lib.<name>"


@dataclass(slots=True)
class Module:
    """One file: its package, its tree, what its imports mean, its functions and the outputs it feeds."""

    path: str
    package: str
    tree: Node
    imports: dict[str, str]
    functions: set[str]
    outputs: set[str]
    tests: tuple[str, ...]
    title: str


@dataclass(slots=True)
class Findings:
    """What a bundle holds and what is wrong with it; problems are ``{path, line, col, message, hint}``."""

    policies: dict[str, dict[str, set[str]]] = field(default_factory=lambda: {"jobs": {}, "acts": {}})
    libraries: set[str] = field(default_factory=set)
    tests: list[str] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    problems: list[Node] = field(default_factory=list)


def analyse(trees: list[Node]) -> Findings:
    """Return what the files of a bundle hold; problems are collected, so that all are told at once."""
    modules = [_module(tree) for tree in trees]
    functions = {f"{module.package}.{name}" for module in modules for name in module.functions}
    found = Findings()
    calls: dict[str, set[str]] = {}
    for module in modules:
        _place(module, found)
        for rule in module.tree["rules"]:
            found.problems += _outputs(module, rule)
            called = calls.setdefault(f"{module.package}.{_name(rule)}", set())
            for node in _nodes(rule):
                if "Call" in node:
                    called |= _targets(module, node["Call"]) & functions
                    found.problems += _call(module, node["Call"], functions)
                found.problems += _reference(module, node)
    found.problems += _recursions(modules, calls)
    for entrypoint, packages in found.policies.items():
        for package, outputs in packages.items():
            if not outputs:
                wanted = "deny or exclude" if entrypoint == "jobs" else "deny"
                path = next(module.path for module in modules if module.package == package)
                hint = f"write `deny contains {{...}} if ...`; without {wanted} the policy would never say no"
                found.problems.append(_problem(path, {}, f"{package} has no rule {wanted}", hint))
    return found


def _module(tree: Node) -> Module:
    ast = tree["ast"]
    path = tree["source"]["file"]
    package = _dotted(ast["package"]["refr"]) or "?"
    imports = {}
    for item in ast["imports"]:
        target = _dotted(item["refr"]) or ""
        alias = _text(tree, item["as"]) if item.get("as") else target.rsplit(".", 1)[-1]
        imports[alias] = target
    names = [(rule, _name(rule)) for rule in ast["rules"]]
    functions = {name for rule, name in names if name and _is_function(rule)}
    outputs = {name for _, name in names if name in ("deny", "exclude")}
    tests = tuple(sorted({name for _, name in names if name and name.startswith("test_")}))
    title = _TITLE.search(tree["source"]["contents"][:4000])
    return Module(path, package, ast, imports, functions, outputs, tests, title[1].strip() if title else "")


def _place(module: Module, found: Findings) -> None:
    """Sort a module by its package; one that nothing would ever ask is a problem."""
    package = module.package
    span = module.tree["package"]["span"]
    if is_test(module.path) or package.endswith("_test"):
        if not (is_test(module.path) and package.endswith("_test")):
            hint = "tests are in packages and files that both end with _test (budget_test.rego)"
            text = f"file {module.path} and package {package} disagree on being a test"
            found.problems.append(_problem(module.path, span, text, hint))
        found.tests += [f"{package}.{name}" for name in module.tests]
        return
    if module.title:
        found.titles.setdefault(package, module.title)
    if _LIBRARY.fullmatch(package):
        found.libraries.add(package)
    elif _POLICY.fullmatch(package):
        outputs = module.outputs if package.startswith("qcos.jobs.") else module.outputs & {"deny"}
        found.policies[package.split(".")[1]].setdefault(package, set()).update(outputs)
    else:
        text = f"package {package} would never be asked"
        found.problems.append(_problem(module.path, span, text, f"name it {PACKAGES}"))


def _outputs(module: Module, rule: Node) -> list[Node]:
    """Refuse a ``deny`` or ``exclude`` that may be undefined: it has to be a set that rules add to."""
    name = _name(rule)
    if (
        name not in ("deny", "exclude")
        or is_test(module.path)
        or "Set" in rule.get("Spec", {}).get("head", {})
    ):
        return []
    span = rule["Spec"]["span"] if "Spec" in rule else rule["Default"]["span"]
    hint = f"write `{name} contains {{...}} if ...`"
    return [_problem(module.path, span, f"{name} is not a set of reasons", hint)]


def _call(module: Module, call: Node, functions: set[str]) -> list[Node]:
    name = _dotted(call["fcn"])
    if name is None:
        return [_problem(module.path, call["span"], "calls a function whose name is not written out")]
    if _targets(module, call) & functions:
        return []
    if name in ALLOWED or name in REFUSED:  # the refused ones are found by their reference
        return []
    hint = "see docs/reference/policy.md for the functions a policy may call"
    return [_problem(module.path, call["span"], f"there is no function {name}", hint)]


def _targets(module: Module, call: Node) -> set[str]:
    """Return the functions of the bundle that a call may mean: of its package, by path, or by an import."""
    name = _dotted(call["fcn"])
    if name is None:
        return set()
    root, _, rest = name.partition(".")
    path = f"{module.imports[root]}.{rest}".rstrip(".") if root in module.imports else name
    return {path.removeprefix("data."), f"{module.package}.{name}"}


def _recursions(modules: list[Module], calls: dict[str, set[str]]) -> list[Node]:
    """Find functions that come back to themselves, which Rego does not have (OPA: rego_recursion_error)."""
    reached = {name: set(called) for name, called in calls.items()}
    grown = True
    while grown:
        grown = False
        for called in reached.values():
            more = set().union(*(reached.get(name, ()) for name in called)) - called
            called |= more
            grown = grown or bool(more)
    problems = []
    for module in modules:
        for rule in module.tree["rules"]:
            name = f"{module.package}.{_name(rule)}"
            if "Spec" in rule and name in reached[name]:
                problems.append(
                    _problem(module.path, rule["Spec"]["span"], f"{name} calls itself: recursion")
                )
    return problems


def _reference(module: Module, node: Node) -> list[Node]:
    """Find a refused function wherever it is named: called, or put in place of another one by ``with``."""
    if "RefDot" not in node and "RefBrack" not in node:
        return []
    name = _dotted(node)
    if name not in REFUSED:
        return []
    span = (node.get("RefDot") or node["RefBrack"])["span"]
    return [_problem(module.path, span, f"{name} must not be used in a policy", REFUSED[name])]


def _name(rule: Node) -> str | None:
    """Return the first name of a rule's head."""
    if "Default" in rule:
        node = rule["Default"]["refr"]
    else:
        (head,) = rule["Spec"]["head"].values()
        node = head["refr"]
    dotted = _dotted(node)
    while dotted is None and ("RefBrack" in node or "RefDot" in node):
        node = (node.get("RefBrack") or node.get("RefDot"))["refr"]
        dotted = _dotted(node)
    return dotted.split(".")[0] if dotted else None


def _is_function(rule: Node) -> bool:
    return "Func" in rule["Spec"]["head"] if "Spec" in rule else bool(rule["Default"]["args"])


def _dotted(node: Node) -> str | None:
    """Return ``a.b.c`` of a reference that is written out with dots or string brackets."""
    parts: list[str] = []
    while True:
        if "Var" in node:
            return ".".join([str(node["Var"]["value"]), *reversed(parts)])
        if "RefDot" in node:
            parts.append(str(node["RefDot"]["field"][1]))
            node = node["RefDot"]["refr"]
        elif "RefBrack" in node and "String" in node["RefBrack"]["index"]:
            parts.append(str(node["RefBrack"]["index"]["String"]["value"]))
            node = node["RefBrack"]["refr"]
        else:
            return None


def _nodes(root: Node) -> Iterator[Node]:
    """Walk all objects of a tree, without recursion: the tree may be deeper than the stack."""
    waiting: list[Any] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _text(tree: Node, span: Node) -> str:
    return str(tree["source"]["contents"].encode()[span["start"] : span["end"]].decode())


def _problem(path: str, span: Node, message: str, hint: str = "") -> Node:
    return {
        "path": path,
        "line": span.get("line", 0),
        "col": span.get("col", 0),
        "message": message,
        "hint": hint,
    }
