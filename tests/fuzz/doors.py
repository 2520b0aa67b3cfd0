"""Every place where bytes from anybody come in: what is called with them, and a true example to start mutations from."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence.conftest import facts, make_instance
from evidence.site import Site
from evidence.test_erased import prove_both
from qcos.base.canonical import loads_strict
from qcos.base.errors import QcosError
from qcos.evidence.bundle import seal_all
from qcos.evidence.succession import hold, read_step, verify_step
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify
from qcos.ledger.anchor.model import SCHEMA as ANCHOR
from qcos.ledger.anchor.verify import verify_anchor
from qcos.ledger.note import parse_vkey
from qcos.ledger.proof import parse_tlog_proof
from qcos.ledger.quorum import read_policy, read_witnesses
from qcos.ledger.record import read_record as read_ledger_record
from qcos.ledger.submission import read_submission
from qcos.ledger.tile import parse_path, split_hashes, unpack_entries
from qcos.ledger.trust import read_ledger_trust
from qcos.ledger.verify import verify_checkpoint, verify_consistency, verify_proof
from qcos.timestamp.archive import read_record
from qcos.timestamp.request import Refused, read_request, request_for
from qcos.timestamp.roughtime import compose
from qcos.timestamp.roughtime import read as read_roughtime
from qcos.timestamp.verify import verify_token

from .forms import in_step
from .mutate import put

REFUSALS = (QcosError, Refused)
LEAVES: tuple[tuple[str | int, ...], ...] = (
    ("bundle_id",),
    ("proof", "envelope", "payload"),
    ("proof", "envelope", "signatures", 0, "keyid"),
    ("proof", "envelope", "signatures", 0, "sig"),
    ("proof", "envelope", "signatures", 1, "sig"),
    ("proof", "timestamp"),
    ("proof", "evidenceRecord"),
    ("proof", "ledger", "record"),
    ("proof", "ledger", "hashes", 0),
    ("proof", "ledger", "checkpoint"),
)
TEXTS = ("bundle_id", "keyid", "checkpoint")
"""Members of a bundle in which hostile text, and hostile bytes in base64, are tried."""


@dataclass(frozen=True)
class Door:
    """One entry: it returns whether it took what it was given, or raises a refusal."""

    enter: Callable[[bytes], bool]
    example: bytes = field(repr=False)
    verifies: bool = True  # else it only reads: bytes by nobody may be well formed


def doors(folder: Path) -> dict[str, Door]:
    """Return all of them, with the keys of a new instance as what is trusted."""
    house = make_instance(folder)
    trust = Trust.load(house.trust)
    sealed, _ = seal_all([facts("one"), facts("two")], house.keyring.evidence, house.authority)
    bundle = house.bundle(sealed)
    proof, token = bundle["proof"]["ledger"], base64.b64decode(bundle["proof"]["timestamp"])
    note, vkeys = proof["checkpoint"], house.ledger.vkeys
    asked = compose(bytes(32), bytes(32))
    site = Site(folder / "site")
    site.publish()
    site.publish()

    def took(call: Callable[[bytes], Any]) -> Callable[[bytes], bool]:
        def enter(data: bytes) -> bool:
            call(data)
            return True

        return enter

    def receipt(kind: str, **members: Any) -> dict[str, Any]:
        return {"schema": ANCHOR, "kind": kind, "checkpoint": note, "proof": members}

    def ots(data: bytes) -> Any:
        text = base64.b64encode(data).decode()
        return verify_anchor(receipt("opentimestamps", ots=text, headers={"800000": "00" * 80}), vkeys, [])

    def ethereum(data: bytes) -> Any:
        text, branch = base64.b64encode(data).decode(), base64.b64encode(data[:4096]).decode()
        return verify_anchor(
            receipt("ethereum", header=branch, nodes=[text] * 3, index=1, chainId=1), vkeys, []
        )

    def holds(given: Any, **options: bool) -> bool:
        report = verify(given, trust, **options)  # type: ignore[arg-type] # options are flags
        if out := [check.name for check in report.checks if check.got.startswith("MemoryError")]:
            raise MemoryError(out[0])  # the report says no, but the next one might not be made at all
        return report.ok

    def leaves(data: bytes) -> bool:
        """Put the bytes into members in turn: as text where text stands, else in base64."""
        text, coded = data[:200_000].decode("latin-1"), base64.b64encode(data[:200_000]).decode()
        return any(holds(in_step(put(bundle, path, text if path[-1] in TEXTS else coded))) for path in LEAVES)

    def example(value: Any) -> bytes:
        return json.dumps(value).encode()

    old = {"old": note, "new": note, "hashes": [base64.b64encode(bytes(32)).decode()]}
    return {
        "bundle": Door(holds, example(bundle)),
        "bundle as text": Door(lambda data: holds(_text(data)), example(bundle)),
        "erased bundle": Door(
            lambda data: holds(data, allow_erased=True), example(prove_both(house, sealed))
        ),
        "members of a bundle": Door(leaves, b"x"),
        "trust": Door(took(Trust.load), example(house.trust), verifies=False),
        "trust update": Door(
            took(lambda d: verify_step(hold(site.documents[0]), read_step(loads_strict(d)))),
            example(site.steps[1]),
        ),
        "ledger trust": Door(
            took(lambda d: read_ledger_trust(_object(d))), example(house.trust), verifies=False
        ),
        "proof": Door(took(lambda d: verify_proof(loads_strict(d), vkeys)), example(proof)),
        "tlog-proof": Door(
            took(lambda d: parse_tlog_proof(_text(d))), proof["tlogProof"].encode(), verifies=False
        ),
        "note": Door(took(lambda d: verify_checkpoint(d, vkeys)), note.encode()),
        "note as text": Door(took(lambda d: verify_checkpoint(_text(d), vkeys)), note.encode()),
        "consistency": Door(took(lambda d: verify_consistency(note, d, old["hashes"], vkeys)), note.encode()),
        "submission": Door(took(read_submission), b"old 0\n\n" + note.encode(), verifies=False),
        "vkey": Door(took(lambda d: parse_vkey(_text(d))), vkeys[0].encode(), verifies=False),
        "policy": Door(took(read_policy), f"log {vkeys[0]}\nquorum none\n".encode(), verifies=False),
        "witnesses": Door(
            took(lambda d: read_witnesses({"policy": _text(d)})), b"quorum none\n", verifies=False
        ),
        "ledger record": Door(took(read_ledger_record), base64.b64decode(proof["record"]), verifies=False),
        "entries": Door(took(unpack_entries), b"\0\1x\0\0", verifies=False),
        "hashes": Door(took(split_hashes), bytes(64), verifies=False),
        "path": Door(took(lambda d: parse_path(_text(d))), b"tile/0/x001/234.p/5", verifies=False),
        "token": Door(took(lambda d: verify_token(d, b"data", trust.certificates)), token),
        "evidence record": Door(
            took(read_record), base64.b64decode(bundle["proof"]["evidenceRecord"]), verifies=False
        ),
        "time-stamp request": Door(took(read_request), request_for(b"data").encode(), verifies=False),
        "roughtime": Door(took(lambda d: read_roughtime(d, asked, bytes(32))), asked),
        "anchor": Door(
            took(lambda d: verify_anchor(loads_strict(d), vkeys, [])),
            example(receipt("opentimestamps", ots="", headers={})),
        ),
        "opentimestamps": Door(took(ots), OTS + bytes(32) + b"\x08"),
        "ethereum": Door(took(ethereum), b"\xf9\x02\x11" + bytes(529)),
    }


OTS = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94\x01\x08"
"""What a detached OpenTimestamps proof over a SHA-256 digest begins with."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _object(data: bytes) -> dict[str, Any]:
    value = loads_strict(data)
    return value if isinstance(value, dict) else {}
