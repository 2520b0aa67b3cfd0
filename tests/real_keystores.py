"""Real key stores for tests, as fixtures: SoftHSM2 tokens in a folder of the test run's own."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PIN = "1234-user"
SO_PIN = "12345678"

MakeToken = Callable[[], str]


@pytest.fixture(scope="session")
def softhsm(component: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return SoftHSM2's module; its configuration is read once a process, so this run has one, with its own tokens."""
    module = component("softhsm2")
    component("softhsm2-util")
    folder = tmp_path_factory.mktemp("softhsm2")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        "slots.removable = false\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    return module


@pytest.fixture(scope="session")
def new_token(softhsm: Path) -> MakeToken:
    """Return what makes a new token and returns its label."""

    def make() -> str:
        label = f"qcos-{secrets.token_hex(4)}"
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            SO_PIN,
            "--pin",
            PIN,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return label

    return make
