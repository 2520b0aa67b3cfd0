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
