"""The COSE view of evidence is signed with keys that count, whatever happens while it is stamped (R10.5, R12.5)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cbor2

from qcos.api.evidence import signed_cose
from qcos.app import Api
from qcos.evidence import cose
from qcos.keys.file import FileKeyring
from qcos.keys.model import Keyring
from qcos.timestamp.authority import LocalAuthority


class Rotated:
    """Keys that are changed while the first signature is being stamped."""

    def __init__(self, before: Keyring, after: Keyring) -> None:
        self._left = [before, after]

    def current(self) -> Keyring:
        return self._left[0]

    def holds(self, keyring: Keyring) -> bool:
        if len(self._left) > 1:
            self._left.pop(0)
        return self._left[0] is keyring


def test_it_is_signed_anew_when_the_key_was_changed_meanwhile(tmp_path: Path) -> None:
    before, after = (FileKeyring(tmp_path / name).open_or_create() for name in ("before", "after"))
    api = SimpleNamespace(
        keys=Rotated(before, after),
        restamper=SimpleNamespace(authority=LocalAuthority(after.tsa_key, after.tsa_chain)),
        settings=SimpleNamespace(origin="qcos.test/ledger"),
    )
    tagged = cbor2.loads(signed_cose(cast(Api, api), b"{}", "evidence-1"))
    protected, _, payload, signature = tagged.value
    assert cbor2.loads(protected)[cose.KID] == after.evidence[0].key_id.encode()
    assert payload == b"{}"
    assert signature
