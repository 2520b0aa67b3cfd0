"""One keyring and one authority for the tests of time."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcos.keys.certify import to_pem
from qcos.keys.file import FileKeyring
from qcos.keys.model import Keyring
from qcos.timestamp.authority import LocalAuthority


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return FileKeyring(tmp_path_factory.mktemp("keys")).open_or_create()


@pytest.fixture(scope="session")
def authority(keyring: Keyring) -> LocalAuthority:
    return LocalAuthority(keyring.tsa_key, keyring.tsa_chain)


@pytest.fixture
def pem(keyring: Keyring, tmp_path: Path) -> Path:
    """The CA's certificate as `openssl` wants it."""
    path = tmp_path / "ca.pem"
    path.write_text(to_pem(keyring.tsa_chain[1]))
    return path
