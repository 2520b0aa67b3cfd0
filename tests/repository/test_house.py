"""The house rules of the sources and their tests that no other tool checks, each with its way out."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from .tree import ROOT, SRC, TESTS, functions, modules, parsed, place, told, tracked

MODULE_LINES = 500
FUNCTION_LINES = 70
# Names that gather what has no better name. One word each, as in `tenant_service` or `utils`.
VAGUE = {"service", "services", "manager", "managers", "util", "utils", "helper", "helpers", "misc", "common"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")

# Where machines keep people's and builds' files; a path below one of them works on one machine only.
WORKPLACES = ("home", "root", "Users", "work", "workspace", "builds", "mnt", "media", "srv", "tmp/plan")
MACHINE_PATH = re.compile(
    r"(?<![\w.$}~>/:-])/(?:" + "|".join(WORKPLACES) + r")/[\w.]|\b[A-Z]:\\\\?(?:Users|home)\\"
)
REGISTRY = re.compile(
    r"py[p]i\.org|pythonhoste[d]\.org|proxy\.golan[g]\.org|registry\.npmj[s]\.org|crate[s]\.io|conda\.anacond[a]\.org"
    r"|--(?:extra-)?index-ur[l]|--find-link[s]|\b(?:artifactor[y]|nexu[s])\."
)
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".in",
    ".rego",
    ".json",
    ".sql",
    ".qasm",
    ".yaml",
    ".yml",
    ".sh",
    ".cfg",
    ".ini",
    "",
}


def test_no_module_is_over_500_lines() -> None:
    long = [f"{place(f)}: {n}" for f in modules(SRC) if (n := len(f.read_text().splitlines())) > MODULE_LINES]
    assert not long, told(long, "Split the module by verb: one file for each thing it does.")


def test_no_function_is_over_70_lines() -> None:
    long = [
        f"{place(file, node.lineno)} {node.name}: {lines}"
        for file in modules(SRC)
        for node in functions(file)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, told(long, "Cut the function where its comments already do.")


def test_every_package_and_module_says_what_it_is_for() -> None:
    silent = [place(file) for file in modules(SRC) if not ast.get_docstring(parsed(file))]
    assert not silent, told(silent, "Give it a docstring of one line.")
    folders = {file.parent for file in modules(SRC)}
    bare = [place(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert not bare, told(bare, "Add an __init__.py with a docstring.")


def test_no_name_is_vague() -> None:
    vague = [
        place(path)
        for path in sorted({part for file in modules(SRC) for part in (file, file.parent)})
        if VAGUE & set(path.stem.lower().split("_"))
    ]
    assert not vague, told(vague, "Name the module by what it does (a verb) or holds (a noun of the field).")


def test_nothing_is_unfinished() -> None:
    found = [
        f"{place(file, number)}: {line.strip()}"
        for file in modules(SRC)
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found, told(found, "Finish it or take it out; abstract methods are @abstractmethod.")


def test_nothing_of_our_own_is_mocked() -> None:
    mocked = [
        place(file, node.lineno) for file in modules(TESTS) for node in ast.walk(parsed(file)) if _mocks(node)
    ]
    assert not mocked, told(mocked, "Write a small real class that keeps the same promise.")


def _mocks(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(name.name.split(".")[0] == "mock" or name.name == "unittest.mock" for name in names)
        case ast.ImportFrom(module=module, names=names):
            return module in ("mock", "unittest.mock") or (
                module == "unittest" and any(name.name == "mock" for name in names)
            )
        case ast.FunctionDef(args=arguments):
            return any(a.arg == "mocker" for a in arguments.args)
        case _:
            return False


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{place(file, number)}: {line.strip()[:120]}"
        for file in tracked()
        if file.suffix in TEXT and file != Path(__file__)
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line) or str(ROOT) in line
    ]
    assert not found, told(
        found, "Use paths relative to the repository, temporary folders, and the client's registry."
    )


def test_the_search_for_machine_paths_finds_them() -> None:
    """The gate above is only as good as its patterns."""
    bad = ["see /home/al/x", 'open("/work/main/a")', "C:\\Users\\al", "cd /root/.cache", "in /tmp/plan/a"]
    assert [line for line in bad if not MACHINE_PATH.search(line)] == []
    good = [
        "a/home/b",
        "https://x.org/home/y",
        "$ROOT/work/z",
        "../work/y",
        "/v1/jobs",
        "/etc/passwd",
        "/tmp",
    ]
    assert [line for line in good if MACHINE_PATH.search(line)] == []
    assert REGISTRY.search("https://" + "files." + "pythonhosted" + ".org/x")


def test_no_gate_is_loosened() -> None:
    """Strict types for all of src, every rule for all of src; what is let go stands in pyproject.toml with its reason."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    mypy = tools["mypy"]
    assert mypy["strict"] is True
    assert (mypy["packages"], mypy["mypy_path"]) == (["qcos"], "src")
    assert not {"exclude", "ignore_errors"} & set(mypy)
    for override in mypy["overrides"]:
        assert set(override) <= {"module", "ignore_missing_imports", "follow_untyped_imports"}
        assert not [name for name in override["module"] if name.startswith("qcos")]
    loosened = tools["ruff"]["lint"]["per-file-ignores"]
    assert not [pattern for pattern in loosened if pattern.startswith(("src", "*"))]
    assert "--strict-markers" in tools["pytest"]["ini_options"]["addopts"]
    for contract in tools["importlinter"]["contracts"]:
        assert "ignore_imports" not in contract, contract["name"]


def test_every_silenced_rule_has_its_reason() -> None:
    silenced = [
        f"{place(file, number)}: {line.strip()[:120]}"
        for file in modules(SRC)
        for number, line in _comments(file)
        if re.search(r"noqa(?!: [A-Z]+\d+)|type: ignore(?!\[)", line) or "ruff: noqa" in line
    ]
    assert not silenced, told(
        silenced, "Name the rule: `# noqa: S101  why` or `# type: ignore[code]  # why`."
    )


def _comments(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if "#" in line:
            yield number, line[line.index("#") :]
