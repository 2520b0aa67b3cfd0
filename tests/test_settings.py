"""Configuration comes from the environment, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcos.base.errors import Invalid
from qcos.settings import read_settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QCOS_PORT", "9000")
    settings = read_settings(tmp_path)
    assert (settings.port, settings.keys) == (9000, tmp_path / "keys")


def test_each_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOS_PORT", "abc")
    monkeypatch.setenv("QCOS_POOL_SIZE", "0")
    with pytest.raises(Invalid) as caught:
        read_settings()
    assert {problem.pointer for problem in caught.value.problems} == {"QCOS_PORT", "QCOS_POOL_SIZE"}


@pytest.mark.parametrize(
    "given",
    [
        '{"aer',
        "[]",
        '{"aer": {"zone": "moon"}}',
        '{"aer": {"zon": "cloud"}}',
        '{"aer": {"on_premise": "yes"}}',
        '{"aer": {"region": ""}}',
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """R3.4: a worker does not start on a place that was mistyped."""
    monkeypatch.setenv("QCOS_PLACES", given)
    with pytest.raises(Invalid) as caught:
        read_settings()
    assert caught.value.code == "settings.invalid"
    assert "places" in str(caught.value).lower()
