"""What a process is wired of, while its keys change."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from conftest import Database
from qcos.app import guard_of, make_api
from qcos.base.clock import now
from qcos.db.engine import scope
from qcos.keys import store
from qcos.keys.certify import to_pem
from qcos.keys.file import FileKeyring
from qcos.keys.make import make_keys
from qcos.settings import Settings


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    """Settings with a source of time that is pinned, and away."""
    pins = tmp_path / "pins.pem"
    pins.write_text("".join(map(to_pem, FileKeyring(tmp_path / "other").open_or_create().tsa_chain)))
    return Settings(
        data=tmp_path,
        database_url=SecretStr(database.app_url),
        time_sources="http://127.0.0.1:1",
        tsa_certificates=pins,
    )


def _guards() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "clock guard"}


def test_authorities_that_follow_each_other_share_the_guard_of_the_clock(settings: Settings) -> None:
    """R10.5: a rotation leaves no thread of the former authority's behind."""
    others = _guards()
    api = make_api(settings)
    try:
        assert _guards() == others, "nobody has asked for time yet"
        before = api.restamper
        one = _guards() - others
        seen = api.keyring.entries
        made = make_keys(api.keys.stores, seen, "tsa", ["ECDSA-P384"], now())
        with scope(api.engine, None) as connection:
            replaced = [entry.key_id for entry in seen if entry.in_force and entry.slot == made[0].slot]
            store.lock(connection)
            store.replace(connection, replaced, now())
            store.add(connection, made)
        api.keys.refresh()
        assert api.restamper is not before
        assert len(one) == 1 and _guards() - others == one
    finally:
        api.close()


def test_who_names_no_source_has_no_guard(tmp_path: Path) -> None:
    assert guard_of(Settings(data=tmp_path))() is None
