"""The repository as these tests see it: its root, its tracked files, their syntax trees."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "qcos"
TESTS = ROOT / "tests"
_MADE = ("__pycache__", ".egg-info", ".pyc")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the repository: what git tracks and what exists, or everything under it without git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return tuple(_unmade(ROOT))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(file for name in listed.stdout.split("\0") if name and (file := ROOT / name).is_file())


def _unmade(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in ("__pycache__", "build"))
        yield from (Path(parent, name) for name in sorted(names) if not name.endswith(_MADE))


def modules(folder: Path) -> list[Path]:
    """Return the Python files under a folder, tracked or not yet."""
    return [file for file in _unmade(folder) if file.suffix == ".py"]


@functools.cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def functions(file: Path) -> Iterator[Function]:
    """Return every function and method of a file, nested ones too."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, Function):
            yield node


def place(file: Path, line: int | None = None) -> str:
    """Return where something stands, as an editor opens it."""
    return str(file.relative_to(ROOT)) + (f":{line}" if line is not None else "")


def told(found: Sequence[str], fix: str) -> str:
    """Return the message of a gate: how many, what to do, where."""
    return "\n  ".join([f"{len(found)} found. {fix}", *found])
