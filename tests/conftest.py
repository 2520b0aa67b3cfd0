"""Real PostgreSQL for every test: one embedded server a run (shared by parallel workers), one fresh database a test that asks for it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from qcos.base.process import collect_rarely
from qcos.db import embedded
from qcos.db.engine import make_engine
from qcos.db.migrate import migrate

# Properties: no test depends on how fast the machine is. Where CI is set, every run tries the same examples, so that a red one
# is red again; elsewhere each run tries new ones, and what failed once is tried first (.hypothesis/). A test that asks for more
# examples says so itself.
_SLOW = [HealthCheck.too_slow]
settings.register_profile(
    "here", deadline=None, max_examples=60, suppress_health_check=_SLOW, print_blob=True
)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@dataclass(frozen=True)
class Database:
    """A migrated, empty database: URLs of its owner and of the application's role."""

    admin_url: str
    app_url: str


# Nobody pulls the plug on it: what is lost without fsync, and in memory, is time. Tests that kill a database start one of their own,
# with fsync, on a disk.
_SERVER = {"max_connections": "200", "fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
_MEMORY = Path("/dev/shm")
_ROOM = 4 * 1024**3  # bytes; a server has its log, and some hundred tables for each test that is running


def _place() -> str | None:
    """Return where the server's folder is made; making a database of 500 files takes four times as long on a disk."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return str(_MEMORY) if roomy else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[embedded.EmbeddedServer]:
    """One server for this worker of the test run."""
    with tempfile.TemporaryDirectory(prefix="qcos-test-pg-", dir=_place()) as folder:
        server = embedded.start(Path(folder), settings=_SERVER)
        migrate(
            server.admin_url, app_password=server.app_password
        )  # makes the role; this database becomes the template
        try:
            yield server
        finally:
            embedded.stop(Path(folder))


def pytest_collection_finish() -> None:
    """Look for garbage rarely, and never among what the tests themselves have loaded."""
    collect_rarely()


def pytest_runtest_setup() -> None:
    """Let nothing begin in the last minute of a day (UTC): quotas hold for a day and budgets for a month, and it would end in the next."""
    while time.time() % 86_400 >= 86_340:
        time.sleep(1)


@pytest.fixture
def database(postgres: embedded.EmbeddedServer) -> Iterator[Database]:
    """A database of its own for one test: a copy of the migrated template."""
    name = f"test_{secrets.token_hex(6)}"
    admin = sa.create_engine(
        _named(postgres.admin_url, "template1"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name} template postgres strategy file_copy")
    try:
        yield Database(_named(postgres.admin_url, name), _named(postgres.app_url, name))
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"drop database {name} with (force)")


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    """An engine as the application's role, which row-level security binds."""
    made = make_engine(database.app_url)
    yield made
    made.dispose()


def _named(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


# A run started in the background ignores SIGINT, and so would every process that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_outside_settings() -> None:
    for name in [n for n in os.environ if n.startswith(("QCOS_", "OTEL_"))]:
        del os.environ[name]


# What `make components` installs; see tools/components.sh.
_COMPONENTS = Path(__file__).resolve().parents[1] / "build" / "components"
_PLACES = {
    "anvil": _COMPONENTS / "npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil",
    "localstack": _COMPONENTS / "localstack/bin/python",
    "softhsm2": Path("/usr/lib/softhsm/libsofthsm2.so"),
}


@pytest.fixture(scope="session")
def component() -> Callable[[str], Path]:
    """Return where a real component lies: one of `_PLACES`, or a program by its name; skips the test, saying so, where it cannot be had."""

    def find(name: str) -> Path:
        place = _PLACES.get(name) or Path(shutil.which(name) or "/nowhere")
        if not place.exists():
            pytest.skip(f"{name} is not on this machine: make components")
        return place

    return find


from real_keystores import (  # noqa: E402, F401 - fixtures
    _aws_credentials,
    bao,
    bao_program,
    kms,
    localstack,
    moto,
    new_token,
    softhsm,
)
