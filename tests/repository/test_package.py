"""What users install: the wheel holds every file of the package, and without extras it verifies evidence (R4.2).

The small installation is a real one as far as Python can tell: an interpreter without site-packages, and a folder with the wheel's files,
the core dependencies and theirs. Nothing is downloaded.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from evidence.conftest import make_instance  # a whole instance, small
from ledger.conftest import make_signers
from ledger.log import grow
from qcos.cli.main import COMMANDS
from qcos.evidence.bundle import attach
from qcos.ledger.edge import Edge

from .tree import ROOT, SRC, told, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = (
    "from importlib.metadata import entry_points\n"
    "(command,) = entry_points(group='console_scripts', name='qcos')\n"
    "command.load()()\n"
)
NO_SOCKET = (
    "import socket\ndef refuse(*_, **__): raise SystemExit('a connection was opened')\n"
    "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked():
        if file.is_relative_to(ROOT / "src") or file.parent == ROOT:
            target = source / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = out.glob("*.whl")
    return made


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _info(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path)


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    ours = {str(file.relative_to(ROOT / "src")) for file in tracked() if file.is_relative_to(SRC)}
    packed = {name for name in _names(wheel) if ".dist-info/" not in name}
    assert not ours - packed, told(sorted(ours - packed), "Add its ending to package-data in pyproject.toml.")
    assert not packed - ours, told(sorted(packed - ours), "It is not in the repository.")
    for ending in (".rego", ".schema.json", "py.typed"):
        assert any(name.endswith(ending) for name in packed), ending
    assert any("metering/books/" in name and name.endswith(".json") for name in packed), "the price book"


def test_the_wheel_says_what_the_project_says(wheel: Path) -> None:
    said = message_from_bytes(_info(wheel, "METADATA"), policy=policy.default)
    assert (said["Name"], said["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert said["License-Expression"] == PROJECT["license"]
    asked = [Requirement(text) for text in said.get_all("Requires-Dist")]
    core = {str(requirement) for requirement in asked if requirement.marker is None}
    assert core == {str(Requirement(text)) for text in PROJECT["dependencies"]}
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


def test_every_entry_point_of_the_wheel_loads(wheel: Path) -> None:
    points = configparser.ConfigParser()
    points.optionxform = str  # type: ignore[assignment]  # names keep their case
    points.read_string(_info(wheel, "entry_points.txt").decode())
    assert set(points) - {"DEFAULT"} == {"console_scripts", "qcos.drivers"}
    assert dict(points["console_scripts"]) == PROJECT["scripts"]
    assert dict(points["qcos.drivers"]) == PROJECT["entry-points"]["qcos.drivers"]
    for group in ("console_scripts", "qcos.drivers"):
        for name, value in points[group].items():
            assert callable(metadata.EntryPoint(name, value, group).load()), value


@dataclass(frozen=True)
class Small:
    """Python with `pip install qcos` and nothing else."""

    site: Path
    home: Path

    def start(self, *arguments: str, before: str = "", script: str = RUN) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_", "PYTHON"))}
        return subprocess.Popen(
            [sys.executable, "-S", "-c", before + script, *arguments],
            env=kept
            | {"PYTHONPATH": str(self.site), "HOME": str(self.home), "TERM": "dumb", "COLUMNS": "160"},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, before: str = "", script: str = RUN) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, before=before, script=script) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _closure(texts: list[str]) -> Iterator[metadata.Distribution]:
    """Return the distributions that pip would install for these requirements."""
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    todo = [(Requirement(text), "") for text in texts]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found = metadata.distribution(requirement.name)
        assert found.version in requirement.specifier, f"{requirement}: {found.version} is installed"
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(Requirement(text), wanted) for text in found.requires or ()]
        if name not in given:
            given.add(name)
            yield found


@pytest.fixture(scope="module")
def small(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    site = tmp_path_factory.mktemp("site")
    for distribution in _closure(PROJECT["dependencies"]):
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            target = Path(str(distribution.locate_file(top)))
            if top != "__pycache__" and target.exists() and not (site / top).exists():
                (site / top).symlink_to(target)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return Small(site, tmp_path_factory.mktemp("home"))


def test_the_small_installation_is_small(small: Small) -> None:
    """Otherwise the tests below would prove nothing."""
    asked = "import sys, importlib.util as u\nprint([n for n in sys.argv[1:] if u.find_spec(n)])\nimport qcos; print(qcos.__file__)"
    seen = small.run("sqlalchemy", "psycopg", "fastapi", "pgqueuer", "opentelemetry", "qiskit", script=asked)
    assert seen.stdout.splitlines() == ["[]", str(small.site / "qcos" / "__init__.py")], seen.stderr


def test_evidence_verifies_without_extras_and_without_network(small: Small, tmp_path: Path) -> None:
    """R4.2: bundle, trust document and `pip install qcos`."""
    instance = make_instance(tmp_path / "keys")
    sealed = instance.seal()
    bundle, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
    bundle.write_text(json.dumps(attach(sealed.document, instance.prove(sealed))))
    trust.write_text(json.dumps(instance.trust))
    arguments = ("evidence", "verify", str(bundle), "--trust", str(trust), "--json")
    done = small.run(*arguments, before=NO_SOCKET)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert len(report["checks"]) >= 8

    bundle.write_text(bundle.read_text().replace("aer-ideal", "aer-idea1", 1))
    done = small.run(*arguments, before=NO_SOCKET)
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is False


def test_a_copied_ledger_verifies_without_extras_and_without_network(small: Small, tmp_path: Path) -> None:
    """R4.2, R5.5: a folder of tiles, the trust document and `pip install qcos`."""
    signers, edge = make_signers(), Edge()
    old = grow(tmp_path / "log", edge, [b"entry %d" % n for n in range(300)], signers)
    grow(tmp_path / "log", edge, [b"entry %d" % n for n in range(300, 700)], signers)
    (tmp_path / "old").write_text(old)
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps({"ledger": [{"vkey": vkey} for vkey in signers.vkeys]}))
    pinned = ("--trust", str(trust), "--json")
    verify = ("ledger", "verify", str(tmp_path / "log"), *pinned)
    consistency = ("ledger", "consistency", str(tmp_path / "old"), "--tiles", str(tmp_path / "log"), *pinned)
    for arguments in (verify, consistency):
        done = small.run(*arguments, before=NO_SOCKET)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert found["ok"] is True and found["size"] == 700
    bundle = tmp_path / "log/tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 300", b"entry 3oo"))
    assert small.run(*verify, before=NO_SOCKET).returncode == 1


def test_a_witness_and_a_monitor_run_without_extras(small: Small, tmp_path: Path) -> None:
    signers = make_signers()
    grow(tmp_path / "log", Edge(), [b"entry"], signers)
    serve = (
        "witness",
        "serve",
        "--data",
        str(tmp_path / "w"),
        "--name",
        "w.example",
        "--port",
        "0",
        "--json",
    )
    with small.start(*serve, "--log", signers.vkeys[0]) as witness:
        assert witness.stdout is not None
        assert json.loads(witness.stdout.readline())["name"] == "w.example"
        witness.terminate()
    assert witness.returncode == 0
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps({"ledger": [{"vkey": vkey} for vkey in signers.vkeys]}))
    told = small.run(
        *("ledger", "monitor", "--url", "http://127.0.0.1:1", "--trust", str(trust)),
        *("--state", str(tmp_path / "state"), "--once", "--json"),
    )
    assert told.returncode == 6, told.stdout + told.stderr
    assert json.loads(told.stdout)["code"] == "client.unreachable"


def test_client_and_help_work_without_extras(small: Small) -> None:
    done = small.run("--help")
    assert done.returncode == 0, done.stderr
    assert [name for name in COMMANDS if name not in done.stdout] == []
    each = "from qcos.cli.main import COMMANDS, main\nprint({n: c for n in COMMANDS if (c := main([n, '--help']))})"
    done = small.run(script=each)
    assert done.stdout.splitlines()[-1:] == ["{}"], done.stdout + done.stderr
    client = small.run(script="from qcos.client import Client\nClient('http://127.0.0.1:1', 't').close()")
    assert client.returncode == 0, client.stderr


@pytest.mark.parametrize("arguments", [("up",), ("worker",)], ids=" ".join)
def test_a_server_without_its_extra_says_what_to_install(small: Small, arguments: tuple[str, ...]) -> None:
    done = small.run(*arguments)
    assert done.returncode != 0
    assert "qcos[server]" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
