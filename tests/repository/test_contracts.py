"""The import contracts bite: each is broken on purpose in a copy of the sources and shown red by its name.

A contract nobody has seen red may be checking nothing: a misspelt module, a tree that is not the one analysed.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .tree import ROOT

# contract -> what is planted: one import that it alone forbids
ONE = {
    "layers": ("qcos.routing.score", "from qcos.jobs import model"),
    "the command line knows the API by its address": ("qcos.cli.job", "from qcos.api import main"),
    "the offline verifier needs no server": ("qcos.evidence.verify", "import sqlalchemy"),
    "the verifier opens no connection": ("qcos.ledger.verify", "import httpx"),
    "vendor SDKs live in their driver": ("qcos.jobs.execute", "import qiskit_aer"),
    "drivers of different vendors are strangers": (
        "qcos.drivers.aer.driver",
        "import qcos.drivers.cirq.driver",
    ),
    "circuits are parsed in a process that can be killed": ("qcos.jobs.admit", "import qiskit"),
    "a key store's library lives in its module": ("qcos.keys.wrap", "import hvac"),
    "pydantic only at the edge": ("qcos.metering.price", "from pydantic import BaseModel"),
}


def _contracts() -> dict[str, dict[str, Any]]:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {contract["name"]: contract for contract in configured}


CONTRACTS = _contracts()
FORBIDDEN = [name for name, contract in CONTRACTS.items() if contract["type"] == "forbidden"]
LAYERS = [[name.strip() for name in line.split("|")] for line in CONTRACTS["layers"]["layers"]]


@dataclass(frozen=True)
class Verdict:
    """What import-linter said about the copy."""

    code: int
    text: str

    @property
    def broken(self) -> set[str]:
        return set(re.findall(r"^(.+) BROKEN$", self.text, re.MULTILINE))

    @property
    def kept(self) -> set[str]:
        return set(re.findall(r"^(.+) KEPT$", self.text, re.MULTILINE))

    @property
    def forbidden(self) -> set[tuple[str, str]]:
        return set(re.findall(r"^(\S+) is not allowed to import (\S+?):?$", self.text, re.MULTILINE))


@dataclass(frozen=True)
class Copy:
    """A copy of the sources to plant violations in."""

    folder: Path
    cache: Path

    def file(self, module: str) -> Path:
        """Return the file of a module or package of the copy."""
        stem = self.folder / "src" / Path(*module.split("."))
        return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")

    def plant(self, module: str, *lines: str) -> None:
        assert self.file(module).is_file(), f"{module} is not there: plant somewhere else"
        with self.file(module).open("a") as file:
            file.write("\n" + "\n".join(lines) + "\n")

    def add(self, path: str) -> None:
        file = self.folder / "src" / "qcos" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text('"""Nobody declared it."""\n')

    def lint(self) -> Verdict:
        linter = Path(sys.executable).with_name("lint-imports")
        ran = subprocess.run(
            [linter, "--config", "pyproject.toml", "--cache-dir", str(self.cache)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src"), "NO_COLOR": "1", "COLUMNS": "250"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Verdict(ran.returncode, ran.stdout + ran.stderr)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imports of unchanged files, read once for all tests."""
    return tmp_path_factory.mktemp("imports")


@pytest.fixture
def copy(tmp_path: Path, cache: Path) -> Iterator[Copy]:
    shutil.copytree(
        ROOT / "src" / "qcos", tmp_path / "src" / "qcos", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    yield Copy(tmp_path, cache)
    shutil.rmtree(tmp_path / "src")


def test_the_sources_as_they_are_keep_every_contract(copy: Copy) -> None:
    verdict = copy.lint()
    assert verdict.code == 0, verdict.text
    assert (verdict.kept, verdict.broken) == (set(CONTRACTS), set())


@pytest.mark.parametrize("name", CONTRACTS)
def test_one_planted_import_breaks_its_contract_and_no_other(copy: Copy, name: str) -> None:
    assert name in ONE, f"plant a violation of the contract {name!r}: add it to ONE in this file"
    module, line = ONE[name]
    copy.plant(module, line)
    verdict = copy.lint()
    assert verdict.code == 1, verdict.text
    assert (verdict.broken, verdict.kept) == ({name}, set(CONTRACTS) - {name}), verdict.text
    assert module in verdict.text, "it says who imported"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_every_pair_of_a_forbidding_contract_is_watched(copy: Copy, name: str) -> None:
    """A module renamed away, or left out of the analysis, would let its imports pass unseen."""
    sources, targets = CONTRACTS[name]["source_modules"], CONTRACTS[name]["forbidden_modules"]
    for source in sources:
        copy.plant(source, *(f"import {target}" for target in targets))
    verdict = copy.lint()
    assert name in verdict.broken, verdict.text
    assert verdict.forbidden >= {(source, target) for source in sources for target in targets}


def test_no_layer_may_import_the_one_above_it(copy: Copy) -> None:
    pairs = [(low, high) for highs, lows in _steps(LAYERS) for low in lows for high in highs]
    for low, high in pairs:
        copy.plant(f"qcos.{low}", f"import qcos.{high}")
    assert copy.lint().forbidden >= {(f"qcos.{low}", f"qcos.{high}") for low, high in pairs}


def test_packages_of_one_layer_may_not_import_each_other(copy: Copy) -> None:
    pairs = [(one, other) for layer in LAYERS for one, other in itertools.pairwise(layer)]
    assert len(pairs) >= 10
    for one, other in pairs:
        copy.plant(f"qcos.{one}", f"import qcos.{other}")
    assert copy.lint().forbidden >= {(f"qcos.{one}", f"qcos.{other}") for one, other in pairs}


@pytest.mark.parametrize("path", ["undeclared/__init__.py", "undeclared.py"])
def test_a_new_package_must_say_its_layer(copy: Copy, path: str) -> None:
    copy.add(path)
    verdict = copy.lint()
    assert verdict.code == 1, verdict.text
    assert verdict.broken == {"layers"}, verdict.text
    assert "undeclared" in verdict.text


@pytest.mark.parametrize(
    "hidden",
    [
        "def later() -> None:\n    import sqlalchemy",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sqlalchemy",
        "from qcos.ledger import store",  # which imports sqlalchemy
    ],
    ids=["in a function", "for types only", "at second hand"],
)
def test_a_hidden_import_is_an_import(copy: Copy, hidden: str) -> None:
    copy.plant("qcos.evidence.verify", hidden)
    assert "the offline verifier needs no server" in copy.lint().broken


def _steps(layers: list[list[str]]) -> Iterator[tuple[list[str], list[str]]]:
    yield from itertools.pairwise(layers)
