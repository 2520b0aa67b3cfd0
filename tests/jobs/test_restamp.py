"""Renewal of time stamps on the database: what is due, one token for all, two at once, too late (R4.3)."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidence.test_renewal import Issuer
from faults.world import World, keys_of
from qcos.base.clock import now
from qcos.base.errors import Conflict
from qcos.db.engine import scope
from qcos.evidence import store as evidence
from qcos.evidence.bundle import attach
from qcos.evidence.verify import verify
from qcos.jobs.conceal import BUNDLE, open_payload
from qcos.jobs.restamp import EVERYTHING, Restamper, expiring, keep
from qcos.keys import store as keys
from qcos.keys.file import FileKeyring
from qcos.keys.trust import trust_document
from qcos.ledger import store as ledger
from qcos.timestamp.archive import ArchiveStamp
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.tree import unpack

LONG = Issuer("an authority with many years before it", 9000)
SHORT = Issuer("an authority that ends soon", 30)


@pytest.fixture
def restamper(world: World) -> Restamper:
    keyring = FileKeyring(world.keys).open_or_create()
    trusted = (*keyring.tsa_chain, LONG.der, SHORT.der)
    return Restamper(world.engine, keys_of(world.engine, world.keys), LONG.at(1), trusted)


def _bundle(world: World, restamper: Restamper, task: Any) -> dict[str, Any]:
    job = world.job(task)
    with scope(world.engine, world.tenant) as connection:
        stored = evidence.of_job(connection, world.tenant, job.id)
        assert stored is not None and stored.document is not None
        renewals = evidence.renewals_of(connection, world.tenant, stored.id)
    document = open_payload(restamper.keys, world.tenant, job.id, job.payload_key, BUNDLE, stored.document)
    return attach(document, None, None, [ArchiveStamp(token, unpack(tree)) for token, tree in renewals])


def _trust(world: World) -> dict[str, Any]:
    return trust_document(
        FileKeyring(world.keys).open_or_create(),
        "test",
        authorities=[(one.entry()["certificate"], "") for one in (LONG, SHORT)],
    )


def _records(world: World) -> int:
    with scope(world.engine, world.tenant) as connection:
        return len(ledger.search(connection, world.tenant, act="evidence.renewed").items)


def test_one_token_renews_every_time_stamp(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """R4.3: bundles sealed alone and in a batch, old and new; the record stands beside the renewal."""
    tasks = [world.submit() for _ in range(5)]
    work(*tasks)
    work(alone := world.submit())
    assert restamper.renew_due(now() + dt.timedelta(days=90)) == 0, "nothing is due for years"
    assert not expiring(restamper.trusted[:2], now() + dt.timedelta(days=90))
    assert expiring(restamper.trusted, now() + dt.timedelta(days=90)), "one of them ends in a month"
    assert restamper.renew_due(EVERYTHING) == 6
    assert _records(world) == 1
    in_fifteen_years = now() + dt.timedelta(days=15 * 365)
    for task in (*tasks, alone):
        bundle = _bundle(world, restamper, task)
        report = verify(bundle, _trust(world), allow_pending=True, at=in_fifteen_years)
        assert report.ok, report.reason
        assert len(report.facts["renewals"]) == 1
    assert restamper.renew_due(EVERYTHING) == 6, "again, on top of the first"
    assert (
        len(verify(_bundle(world, restamper, alone), _trust(world), allow_pending=True).facts["renewals"])
        == 2
    )
    soon = now() + dt.timedelta(days=15 * 365)
    assert restamper.renew_due(soon) == 0, "the renewed ones last longer"


def test_two_at_once_make_one_renewal(world: World, work: Callable[..., None], restamper: Restamper) -> None:
    """Two renewals of one time stamp would contradict each other: the slower one keeps nothing."""
    task = world.submit()
    work(task)
    first, second = (restamper.stamp(restamper.plan(world.tenant, EVERYTHING)) for _ in range(2))
    with scope(world.engine, world.tenant) as connection:
        keep(connection, world.tenant, first)
    with pytest.raises(Conflict) as refused, scope(world.engine, world.tenant) as connection:
        keep(connection, world.tenant, second)
    assert refused.value.code == "evidence.renewed"
    report = verify(_bundle(world, restamper, task), _trust(world), allow_pending=True)
    assert report.ok, report.reason
    assert len(report.facts["renewals"]) == 1


def test_what_is_too_late_or_broken_is_told(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    work(world.submit())
    late = restamper.plan(world.tenant, EVERYTHING, at=now() + dt.timedelta(days=40 * 365))
    assert (len(late.late), late.leaves) == (1, [])
    blind = Restamper(restamper.engine, restamper.keys, restamper.authority, (LONG.der,))
    broken = blind.plan(world.tenant, EVERYTHING)
    assert (len(broken.broken), broken.leaves) == (1, [])
    assert blind.renew_due(EVERYTHING) == 0
    assert _records(world) == 0


def test_the_stamps_of_a_revoked_authority_are_left_as_they_are(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """The ledger's order still proves such evidence; renewed after the revocation, nothing would."""
    keyring = FileKeyring(world.keys).open_or_create()
    work(world.submit())
    assert restamper.renew_due(EVERYTHING) == 1
    work(task := world.submit())
    with scope(world.engine, None) as connection:
        keys.add(connection, keyring.entries)
        keys.revoke(connection, keyring.tsa_key.key_id, now(), "stolen")
    plan = restamper.plan(world.tenant, EVERYTHING)
    assert plan.late == [world.job(task).bundle], "not the one that another authority had renewed before"
    assert len(plan.leaves) == 1
    assert restamper.renew_due(EVERYTHING) == 1
    with scope(world.engine, world.tenant) as connection:
        assert evidence.renewals_of(connection, world.tenant, plan.late[0]) == []


def test_an_authority_whose_key_was_replaced_meanwhile_renews_nothing(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """A round may be long: what an old key stamps after its time would spoil the evidence it renews."""
    keyring = FileKeyring(world.keys).open_or_create()
    work(task := world.submit())
    own = LocalAuthority(keyring.tsa_key, keyring.tsa_chain)
    old = Restamper(restamper.engine, restamper.keys, own, restamper.trusted)
    plan = old.plan(world.tenant, EVERYTHING)
    with scope(world.engine, None) as connection:
        keys.add(connection, keyring.entries)
    assert old.stamp(plan).plan.leaves
    with scope(world.engine, None) as connection:
        keys.replace(connection, [keyring.tsa_key.key_id], now())
    with pytest.raises(Conflict, match="replaced or revoked") as refused:
        old.stamp(plan)
    assert refused.value.code == "evidence.renewal_authority"
    assert restamper.stamp(plan).plan.bundles == [(world.job(task).bundle, 1)]


def test_an_authority_that_ends_sooner_renews_nothing(
    world: World, work: Callable[..., None], restamper: Restamper, tmp_path: Path
) -> None:
    work(world.submit())
    ending = Restamper(restamper.engine, restamper.keys, SHORT.at(1), restamper.trusted)
    with pytest.raises(Conflict) as refused:
        ending.renew_due(EVERYTHING)
    assert refused.value.code == "evidence.renewal_authority"
    assert _records(world) == 0


def test_an_authority_that_is_behind_renews_nothing(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """Time stamps of one bundle ascend (RFC 4998, 5.1): a renewal before what it renews would spoil it."""
    task = world.submit()
    work(task)
    behind = Restamper(restamper.engine, restamper.keys, LONG.at(-0.5), restamper.trusted)
    with pytest.raises(Conflict) as refused:
        behind.renew_due(EVERYTHING)
    assert refused.value.code == "evidence.renewal_order"
    assert verify(_bundle(world, restamper, task), _trust(world), allow_pending=True).ok


def _rehash(world: World, restamper: Restamper, after: str = "", most: int | None = None) -> int:
    """As the administrator's act does; ``most``: as if it was stopped after so many."""
    plan = restamper.plan(world.tenant, now(), after=after, hash_name="sha3_512")
    assert not plan.late
    assert not plan.broken
    if most is not None:
        del plan.leaves[most:], plan.bundles[most:]
    if not plan.leaves:
        return 0
    with scope(world.engine, world.tenant) as connection:
        keep(connection, world.tenant, restamper.stamp(plan))
    return len(plan.leaves)


def _tlv(data: bytes) -> tuple[bytes, list[bytes]]:
    """Read one DER value by hand: its content, and the values in it as they are encoded."""

    def end(at: int) -> tuple[int, int]:
        length, begin = data[at + 1], at + 2
        if length >= 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[at + 2 : begin], "big")
        return begin, begin + length

    begin, stop = end(0)
    parts, at = [], begin
    while at < stop:
        _, after = end(at)
        parts.append(data[at:after])
        at = after
    return data[begin:stop], parts


def _sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def _root_by_hand(bundle: dict[str, Any], chains: list[bytes], stamp: bytes) -> bytes:
    """RFC 4998, 5.2 and 4.3, in other words: what the first time stamp of the newest chain has to be over."""
    signature = base64.b64decode(bundle["proof"]["envelope"]["signatures"][0]["sig"])
    older = _sequence(b"".join(chains[:-1]))
    node = hashlib.sha3_512(hashlib.sha3_512(signature).digest() + hashlib.sha3_512(older).digest()).digest()
    parts = _tlv(stamp)[1]
    for number, hashes in enumerate(_tlv(parts[0])[1] if len(parts) == 2 else []):
        beside = [_tlv(one)[0] for one in _tlv(hashes)[1]]
        assert number or node in beside
        node = hashlib.sha3_512(b"".join(sorted(beside if number == 0 else [*beside, node]))).digest()
    return node


def test_a_new_chain_with_a_stronger_hash(
    world: World, work: Callable[..., None], restamper: Restamper, tmp_path: Path
) -> None:
    """R4.3: hash-tree renewal (RFC 4998, 5.3) of bundles that were renewed and others; in parts; by hand and OpenSSL."""
    tasks = [world.submit() for _ in range(3)]
    work(*tasks)
    assert restamper.renew_due(EVERYTHING) == 3
    work(alone := world.submit())
    assert _rehash(world, restamper, most=2) == 2, "stopped"
    assert _rehash(world, restamper) == 2, "goes on with those that are left"
    assert _rehash(world, restamper) == 0, "nothing rests on the older hash any more"
    (tmp_path / "authority.pem").write_text(LONG.entry()["certificate"])
    in_fifteen_years = now() + dt.timedelta(days=15 * 365)
    for task, renewals in ((tasks[0], 2), (tasks[2], 2), (alone, 1)):
        bundle = _bundle(world, restamper, task)
        report = verify(bundle, _trust(world), allow_pending=True, at=in_fifteen_years)
        assert report.ok, report.reason
        assert [one["hash"] for one in report.facts["renewals"]] == ["sha512", "sha3-512"][-renewals:]
        record = base64.b64decode(bundle["proof"]["evidenceRecord"])
        chains = _tlv(_tlv(record)[1][2])[1]
        stamp = _tlv(chains[-1])[1][0]
        (tmp_path / "token").write_bytes(_tlv(stamp)[1][-1])
        root = _root_by_hand(bundle, chains, stamp)
        command = ["openssl", "ts", "-verify", "-digest", root.hex(), "-sha3-512", "-token_in"]
        files = ["-in", str(tmp_path / "token"), "-CAfile", str(tmp_path / "authority.pem")]
        done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=60)
        assert "Verification: OK" in done.stdout + done.stderr


def test_renewals_go_on_with_the_stronger_hash(
    world: World, work: Callable[..., None], restamper: Restamper
) -> None:
    """Whoever has begun with it stays with it: chains of it are renewed in it, others move when they are due."""
    work(before := world.submit())
    assert _rehash(world, restamper) == 1
    work(after := world.submit())
    assert restamper.renew_due(now() + dt.timedelta(days=90)) == 0, "nothing is due"
    assert restamper.renew_due(EVERYTHING) == 2
    for task, renewals in ((before, 2), (after, 1)):
        report = verify(_bundle(world, restamper, task), _trust(world), allow_pending=True)
        assert report.ok, report.reason
        assert [one["hash"] for one in report.facts["renewals"]] == ["sha3-512"] * renewals
    with scope(world.engine, world.tenant) as connection:
        (placed,) = ledger.search(connection, world.tenant, act="evidence.renewed").items
    details = placed.record["details"]
    assert (details["bundles"], details["rehashed"]) == (2, 1)
    assert details["root"].startswith("sha3-512:")


def test_it_goes_on_in_parts(world: World, work: Callable[..., None], restamper: Restamper) -> None:
    tasks = sorted(world.job(task).bundle or "" for task in _worked(world, work, 3))
    plan = restamper.plan(world.tenant, EVERYTHING, after=tasks[0])
    assert [bundle for bundle, _ in plan.bundles] == tasks[1:]
    assert plan.complete


def _worked(world: World, work: Callable[..., None], count: int) -> list[Any]:
    tasks = [world.submit() for _ in range(count)]
    work(*tasks)
    return tasks
