"""Locked dependencies: every one by version and hash, none by address, and the ones that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .tree import ROOT, place, told

FOLDER = ROOT / "requirements"
LOCKS = sorted(FOLDER.glob("*.txt"))
DEVELOPMENT = {
    "build",
    "setuptools",
    "wheel",
}  # what `pip install --no-build-isolation` needs to stand there already


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock file, as it stands there."""

    text: str
    hashes: tuple[str, ...]

    @property
    def requirement(self) -> Requirement:
        return Requirement(self.text)

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "==", f"{self.text}: pin it with =="
        return specifier.version


def _pins(lock: Path) -> list[Pin]:
    lines = re.sub(r"\\\n", " ", lock.read_text()).splitlines()
    pins = []
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            text, *hashes = re.split(r"\s+--hash=", line.strip())
            pins.append(Pin(text, tuple(hashes)))
    return pins


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_every_locked_requirement_has_a_version_and_hashes(lock: Path) -> None:
    pins = _pins(lock)
    assert pins, "an empty lock locks nothing"
    assert [pin.text for pin in pins if not pin.version] == []
    bad = [
        p.text
        for p in pins
        if not p.hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in p.hashes)
    ]
    assert not bad, told(bad, "Compile the locks with `make locks`.")
    assert len({pin.name for pin in pins}) == len(pins), "one version of each"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_no_lock_records_where_it_was_downloaded(lock: Path) -> None:
    found = [
        f"{place(lock, number)}: {line}"
        for number, line in enumerate(lock.read_text().splitlines(), 1)
        if "://" in line or " @ " in line or re.match(r"\s*(-[a-z]\b|--(?!hash=))", line)
    ]
    assert not found, told(found, "Compile without addresses and options: the client knows its registry.")


def test_the_locks_satisfy_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {pin.name: pin for pin in _pins(FOLDER / "dev.txt")}
    asked = [Requirement(text) for text in project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        asked += [r for text in extra if (r := Requirement(text)).name != "qcos"]
    assert len(asked) >= 20
    unmet = [
        str(requirement)
        for requirement in asked
        if (pin := pinned.get(canonicalize_name(requirement.name))) is None
        or pin.version not in requirement.specifier
    ]
    assert not unmet, told(unmet, "Add it to requirements/*.in and compile the locks with `make locks`.")
    assert set(pinned) >= DEVELOPMENT


def test_the_server_runs_in_production_on_what_was_tested() -> None:
    tested = {pin.name: (pin.version, pin.hashes) for pin in _pins(FOLDER / "dev.txt")}
    served = {pin.name: (pin.version, pin.hashes) for pin in _pins(FOLDER / "server.txt")}
    other = [name for name, pin in served.items() if tested.get(name) != pin]
    assert not other, told(other, "Compile both locks together with `make locks`.")
