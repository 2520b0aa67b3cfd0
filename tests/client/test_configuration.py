"""Where server and token are found."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid
from qcos.client import configuration, from_environment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "config.toml"


def environ(file: Path, **more: str) -> dict[str, str]:
    return {"QCOS_CONFIG": str(file), **more}


def test_the_file_is_written_for_its_owner_alone_and_read_back(file: Path) -> None:
    members = {"url": "https://q.example", "token": 'quote " back \\ é', "project": "p"}
    configuration.write(file, members)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert configuration.read(file) == members
    found = configuration.load(environ(file))
    assert (found.url, found.token, found.project, found.source) == (*members.values(), str(file))
    configuration.write(file, {"url": "https://other.example"})
    assert configuration.read(file) == {"url": "https://other.example"}
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Zs", "Co", "Cn"])))
def test_any_printable_text_is_read_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("config") / "config.toml"
    configuration.write(file, {"project": text})
    assert configuration.read(file) == {"project": text}


def test_control_characters_are_not_written(file: Path) -> None:
    with pytest.raises(Invalid):
        configuration.write(file, {"url": 'x"\ntoken = "y'})
    assert not file.exists()


def test_a_token_that_others_can_read_is_not_believed(file: Path) -> None:
    configuration.write(file, {"url": "https://q.example", "token": "t"})
    file.chmod(0o644)
    with pytest.raises(Invalid) as caught:
        configuration.load(environ(file))
    assert caught.value.code == "config.mode"
    configuration.write(file, {"url": "https://q.example"})
    file.chmod(0o644)
    assert configuration.load(environ(file)).url == "https://q.example"


def test_the_environment_goes_before_the_file(file: Path, tmp_path: Path) -> None:
    configuration.write(file, {"url": "https://q.example", "token": "of the file", "project": "p"})
    token_file = tmp_path / "token"
    token_file.write_text("of a token file\n")
    assert configuration.load(environ(file, QCOS_TOKEN="t")).token == "t"
    assert configuration.load(environ(file, QCOS_TOKEN_FILE=str(token_file))).token == "of a token file"
    assert configuration.load(environ(file, QCOS_PROJECT="other")).project == "other"
    with pytest.raises(Invalid):
        configuration.load(environ(file, QCOS_TOKEN_FILE=str(tmp_path / "none")))


def test_the_files_token_is_for_the_files_server_only(file: Path) -> None:
    """Whoever makes a user set QCOS_URL must not get the token of another server."""
    configuration.write(file, {"url": "https://q.example/v1/", "token": "t"})
    assert configuration.load(environ(file, QCOS_URL="https://evil.example")).token == ""
    assert configuration.load(environ(file, QCOS_URL="https://q.example")).token == "t"


@pytest.mark.parametrize("text", ["url = ", 'nonsense = "x"', "url = 5", "[url]\na = 1"])
def test_a_wrong_file_is_said_to_be_wrong(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        configuration.load(environ(file))
    assert caught.value.subject == str(file)


def test_without_a_server_the_hint_says_what_to_do(file: Path) -> None:
    with pytest.raises(Invalid) as caught:
        from_environment(environ(file))
    assert caught.value.code == "client.not_configured"
    assert "qcos login" in caught.value.hint


def test_the_token_is_not_in_the_text_form(file: Path) -> None:
    configuration.write(file, {"url": "https://q.example", "token": "secret-token"})
    found = configuration.load(environ(file))
    assert found.token == "secret-token"
    assert "secret-token" not in repr(found)


def test_the_place_of_the_file(tmp_path: Path) -> None:
    assert configuration.path({"QCOS_CONFIG": "/x"}) == Path("/x")
    assert configuration.path({"XDG_CONFIG_HOME": "/y"}) == Path("/y/qcos/config.toml")
    assert configuration.path({}) == Path.home() / ".config/qcos/config.toml"
