"""``qcos login``, ``config``, ``trust``."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from client.wire import Wire, problem, told

from .conftest import Run


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("qcos_fresh\n")
    return file


def test_login_tries_the_token_and_keeps_it(
    run: Run, wire: Wire, tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.on("GET", "whoami", told({"id": "user:a@b.c"}))
    ran = run("login", wire.url, "--token-file", token, "--project", "p")
    assert ran.code == 0
    assert "qcos_fresh" not in ran.out + ran.err
    assert wire.asked[0].headers["authorization"] == "Bearer qcos_fresh"
    assert stat.S_IMODE((tmp_path / "config.toml").stat().st_mode) == 0o600
    monkeypatch.delenv("QCOS_URL")
    monkeypatch.delenv("QCOS_TOKEN")
    assert run("whoami", "--json").json() == {"id": "user:a@b.c"}
    assert wire.asked[1].headers["authorization"] == "Bearer qcos_fresh"
    shown = run("config", "show", "--json").json()
    assert (shown["url"], shown["token"], shown["project"]) == (wire.url, "set", "p")


def test_a_refused_token_is_not_kept(run: Run, wire: Wire, tmp_path: Path, token: Path) -> None:
    wire.on("GET", "whoami", problem(401, family="denied", code="auth.unknown", message="m"))
    assert run("login", wire.url, "--token-file", token).code == 3
    assert not (tmp_path / "config.toml").exists()


def test_another_server_does_not_inherit_the_token(run: Run, wire: Wire, tmp_path: Path, token: Path) -> None:
    wire.on("GET", "whoami", told({"id": "x"}))
    run("login", wire.url, "--token-file", token)
    assert run("config", "set", "url", "https://other.example").code == 0
    assert "qcos_fresh" not in (tmp_path / "config.toml").read_text()


def test_a_token_is_no_argument(run: Run) -> None:
    assert run("config", "set", "token", "secret", "--json").error()["code"] == "cli.token_argument"
    assert run("config", "set", "nonsense", "x", "--json").error()["code"] == "config.name"


def test_without_a_server_the_way_out_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOS_URL")
    ran = run("whoami", "--json")
    assert ran.code == 2
    assert "qcos login" in ran.error()["hint"]


def test_the_trust_document_is_kept(run: Run, wire: Wire, tmp_path: Path) -> None:
    wire.on("GET", "trust", told({"schema": "qcos.trust/v1"}))
    file = tmp_path / "trust.json"
    told_digest = run("trust", "-o", file, "--json").json()["digest"]
    assert json.loads(file.read_text()) == {"schema": "qcos.trust/v1"}
    assert told_digest.startswith("sha256:")
    assert run("trust", "--json").json() == {"schema": "qcos.trust/v1"}
