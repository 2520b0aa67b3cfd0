"""Whoever holds a trust document follows its successors offline, and nobody moves him anywhere else (R4.2, R10.5)."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.base.canonical import canonical
from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid
from qcos.evidence.envelope import PAYLOAD_TYPE, pae
from qcos.evidence.listed import list_keys, show, tell_changes
from qcos.evidence.succession import (
    Held,
    demand_grown,
    demand_witnesses,
    hold,
    signing_keys,
    update,
    write_step,
)
from qcos.keys.make import make_keys
from qcos.keys.signer import PublicKey
from qcos.ledger.note import COSIGNATURE_ED25519, Vkey

from .site import ORIGIN, START, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Version 1 of an installation's documents; the tests go on from there."""
    made = Site(tmp_path)
    made.publish()
    return made


def refused(code: str, held: Held, items: Sequence[Any]) -> Integrity:
    with pytest.raises(Integrity) as caught:
        update(held, items)
    assert caught.value.code == code, caught.value
    return caught.value


def test_documents_follow_each_other_over_rotations_and_revocations(site: Site) -> None:
    first = hold(site.documents[0])
    site.rotate("evidence", "ML-DSA-65", "Ed25519")
    site.publish()
    site.rotate("ledger", "Ed25519", "ML-DSA-44", "ML-DSA-65")
    site.publish()
    site.rotate("tsa", "ECDSA-P384")
    site.publish()
    stolen = site.key("evidence", "ML-DSA-65")
    made = make_keys(site.stores, site.entries, "evidence", ["ML-DSA-65"], site.at)
    site.revoke(stolen)
    site.change({}, made)
    last = site.publish()
    assert [one.version for one in update(first, site.steps)] == [2, 3, 4, 5]
    assert update(first, site.steps)[-1].digest == last.digest
    assert update(last, site.steps[-1:]) == () and update(last, site.steps) == ()
    names = [one["keyid"] for one in site.steps[-1]["signatures"]]
    assert stolen not in names and len(names) == 4, "a revoked key does not vouch for its own revocation"
    told = {(one["change"], one["role"], one["key"]) for one in tell_changes(first.trust, last.trust)}
    assert ("revoked", "evidence", stolen) in told
    assert {"added", "retired", "revoked"} == {change for change, _, _ in told}
    assert {role for _, role, _ in told} == {"evidence", "ledger", "tsa"}
    assert tell_changes(last.trust, last.trust) == []


def test_what_is_shown_names_every_key_by_the_id_of_the_registry(site: Site) -> None:
    shown = show(hold(site.documents[0]))
    assert (shown["version"], shown["previous"]) == (1, None)
    known = {entry.key_id for entry in site.entries if entry.role != "tsa-ca"}
    assert {row["key"] for row in shown["keys"]} == known
    assert {row.role for row in list_keys(hold(site.documents[0]).trust)} == {"evidence", "ledger", "tsa"}


def test_a_document_of_before_the_succession_leads_to_its_first_version(site: Site) -> None:
    old = hold({k: v for k, v in site.documents[0].items() if k not in ("version", "issued")})
    assert old.version == 0
    site.rotate("evidence", "Ed25519")
    site.publish()
    assert [one.version for one in update(old, site.steps)] == [1, 2]
    assert update(old, [], overlapping=True) == (), "a server of an older release has none"


def test_one_that_is_older_than_a_rotation_before_the_succession_is_not_moved(tmp_path: Path) -> None:
    site = Site(tmp_path)
    old = hold(site.content())
    site.rotate("evidence", "ML-DSA-65", "Ed25519")
    site.publish()
    error = refused("trust.signer", old, site.steps)
    assert "the way you got the first" in error.hint


def test_a_fork_is_refused(site: Site) -> None:
    """Two documents of one version, both signed by good keys: whoever holds one is not moved to the other."""
    other = site.branch()
    site.rotate("evidence", "Ed25519")
    held = site.publish()
    other.rotate("tsa", "ECDSA-P384")
    other.publish()
    other.publish()
    refused("trust.fork", held, other.steps)  # it shows another document of the version held
    refused("trust.fork", hold(other.documents[1]), site.steps)


def test_a_fork_that_hides_the_version_held_is_refused(site: Site) -> None:
    other = site.branch()
    held = site.publish()
    other.rotate("tsa", "ECDSA-P384")
    other.publish()
    other.publish()
    refused("trust.fork", held, other.steps[2:])


def test_a_gap_is_refused(site: Site) -> None:
    held = hold(site.documents[0])
    for _ in range(3):
        site.publish()
    refused("trust.gap", held, site.steps[2:])
    refused("trust.gap", held, [site.steps[1], site.steps[3]])
    refused("trust.gap", held, [site.steps[2], site.steps[1]])


def test_a_rollback_is_refused(site: Site) -> None:
    site.publish()
    held = site.publish()
    refused("trust.rollback", held, site.steps[:2])
    with pytest.raises(Integrity) as caught:
        update(held, [], overlapping=True)
    assert caught.value.code == "trust.rollback"
    assert update(held, []) == (), "nothing was asked for but what comes after"


def test_a_strangers_chain_is_refused(site: Site, tmp_path: Path) -> None:
    """Also one of the same name: what it signs with, the document held does not know."""
    held = hold(site.documents[0])
    for origin, code in ((ORIGIN, "trust.signer"), ("else.test/ledger", "trust.origin")):
        stranger = Site(tmp_path / code, origin)
        stranger.publish()
        stranger.publish(previous=held.digest)
        refused("trust.fork", held, stranger.steps)
        refused(code, held, stranger.steps[1:])


def test_a_revoked_key_signs_no_successor(site: Site) -> None:
    stolen = site.key("ledger", "ML-DSA-65")
    made = make_keys(site.stores, site.entries, "ledger", ["ML-DSA-65"], site.at)
    site.revoke(stolen)
    site.change({}, made)
    held = site.publish()
    document = site.drafted()
    due = [*signing_keys(held.trust)]
    due[-1] = stolen
    refused("trust.revoked_signer", held, [write_step(document, site.signers(due))])


def test_a_replaced_key_signs_no_successor(site: Site) -> None:
    old = site.key("evidence", "Ed25519")
    site.rotate("evidence", "Ed25519")
    held = site.publish()
    document = site.drafted()
    due = [old if key.algorithm == "Ed25519" else name for name, key in signing_keys(held.trust).items()]
    error = refused("trust.signer", held, [write_step(document, site.signers(due))])
    assert "may not sign" in error.message


@pytest.mark.parametrize("role", ["evidence", "ledger"])
def test_all_keys_of_one_role_move_nobody(site: Site, role: str) -> None:
    """Neither by signing alone, nor by revoking those that would have to sign, too."""
    held = hold(site.documents[0])
    mine = [entry.key_id for entry in site.entries if entry.role == role]
    refused("trust.signer", held, [write_step(site.drafted(), site.signers(mine))])
    others = [e.key_id for e in site.entries if e.role in ("evidence", "ledger") and e.role != role]
    site.revoke(*others)
    refused("trust.expelled", held, [write_step(site.drafted(), site.signers(mine))])


def test_a_document_without_a_ledger_leads_nowhere_when_one_of_its_keys_is_revoked(site: Site) -> None:
    held = hold(site.documents[0] | {"ledger": []})
    site.revoke(site.key("evidence", "ML-DSA-65"))
    document = site.drafted(previous=held.digest, ledger=[])
    refused("trust.signer", held, [write_step(document, site.signers([site.key("evidence", "Ed25519")]))])


def _without(document: dict[str, Any], member: str) -> dict[str, Any]:
    return document | {member: document[member][1:]}


def _released(document: dict[str, Any], member: str) -> dict[str, Any]:
    first = {k: v for k, v in document[member][0].items() if k not in ("notAfter", "revokedAt", "reason")}
    return document | {member: [first, *document[member][1:]]}


@pytest.mark.parametrize("member", ["evidence", "ledger", "timestamp"])
@pytest.mark.parametrize("change", [_without, _released])
def test_no_key_is_dropped_or_released_whoever_signs(site: Site, member: str, change: Any) -> None:
    for role, algorithm in (("evidence", "ML-DSA-65"), ("ledger", "Ed25519"), ("tsa", "ECDSA-P384")):
        site.rotate(role, algorithm)  # type: ignore[arg-type] # names of roles
    held = site.publish()
    document = change(site.drafted(), member)
    refused("trust.lost_key", held, [write_step(document, site.signers(list(signing_keys(held.trust))))])


def test_another_key_of_the_same_id_is_another_key(site: Site) -> None:
    """An id is 64 bits of a digest: to be found with much work, by whoever made the key that was replaced."""
    before = hold(site.documents[0]).trust
    key_id, key = next(iter(before.keys.items()))
    other = replace(key, public=PublicKey.load(site.entries[-1].spki))
    assert other.public.spki != key.public.spki
    with pytest.raises(Integrity) as caught:
        demand_grown(before, replace(before, keys={**before.keys, key_id: other}))
    assert caught.value.code == "trust.lost_key"
    demand_grown(before, before)


@pytest.mark.parametrize("size", [None, 8, 10**9])
def test_a_revoked_authority_vouches_for_no_more_of_the_ledger_later(site: Site, size: int | None) -> None:
    """Its thief states any time; only the ledger's order says what was there before."""
    site.revoke(site.key("tsa", "ECDSA-P384"))
    held = site.publish()  # a day later: what the ledger had is known
    fewer, more = (site.content()["timestamp"] for _ in range(2))
    more[0]["ledgerSize"], fewer[0]["ledgerSize"] = size, 6
    if size is None:
        del more[0]["ledgerSize"]
    document = site.drafted(timestamp=more)
    refused("trust.lost_key", held, [write_step(document, site.signers(list(signing_keys(held.trust))))])
    assert site.publish(timestamp=fewer).version == 3
    assert len(update(held, site.steps)) == 1


def test_what_the_ledger_had_at_a_revocation_is_corrected_when_it_is_known(site: Site) -> None:
    site.revoke(site.key("tsa", "ECDSA-P384"))
    site.at -= dt.timedelta(days=1)
    held = site.publish()  # at the very instant: the revocation has not taken effect
    grown = site.content()["timestamp"]
    grown[0]["ledgerSize"] = 9
    site.publish(timestamp=grown)
    assert len(update(held, site.steps)) == 1


@pytest.mark.parametrize("state", [{}, {"revokedAt": rfc3339(START), "reason": "stolen"}])
def test_a_ledger_key_of_another_kind_is_refused_as_an_update(site: Site, state: dict[str, str]) -> None:
    held = hold(site.documents[0])
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    strange = {"vkey": str(Vkey(ORIGIN, COSIGNATURE_ED25519, raw)), "notBefore": rfc3339(START), **state}
    document = site.drafted(ledger=[*site.content()["ledger"], strange])
    refused("trust.update", held, [write_step(document, site.signers(list(signing_keys(held.trust))))])


def test_an_outside_authority_may_go(site: Site) -> None:
    outside = Site(site.folder / "outside").content()["timestamp"]
    content = site.content()["timestamp"]
    held = site.publish(timestamp=[*content, *outside])
    last = site.publish()
    assert update(held, site.steps)[-1].digest == last.digest
    assert [one["change"] for one in tell_changes(held.trust, last.trust)] == ["removed"]


def test_time_does_not_run_backwards(site: Site) -> None:
    held = site.publish()
    document = site.drafted(issued=rfc3339(START))
    refused("trust.order", held, [write_step(document, site.signers(list(signing_keys(held.trust))))])


def test_other_witnesses_are_taken_only_on_demand(site: Site) -> None:
    """They are what protects from the installation's own keys."""
    named = [
        str(Vkey(name, COSIGNATURE_ED25519, Ed25519PrivateKey.generate().public_key().public_bytes_raw()))
        for name in ("w1.test", "w2.test")
    ]
    none, one, both = (
        hold(site.content(**more)).trust
        for more in (
            {},
            *({"witnesses": {"quorum": n, "keys": [{"vkey": v} for v in named[:n]]}} for n in (1, 2)),
        )
    )
    for after in (one, both):
        demand_witnesses(none, after)
        demand_witnesses(after, after)
    for some, after in ((both, none), (both, one), (one, both)):
        with pytest.raises(Integrity) as caught:
            demand_witnesses(some, after)
        assert caught.value.code == "trust.witnesses"


@pytest.mark.parametrize(
    "place",
    [
        {"version": 0, "issued": rfc3339(START)},
        {"version": True, "issued": rfc3339(START)},
        {"version": 1},
        {"version": 1, "issued": "yesterday"},
        {"version": 1, "issued": rfc3339(START), "previous": "sha256:" + "0" * 64},
        {"version": 2, "issued": rfc3339(START)},
        {"version": 2, "issued": rfc3339(START), "previous": "sha256:0"},
        {"previous": "sha256:" + "0" * 64},
        {"issued": rfc3339(START)},
    ],
)
def test_a_document_says_its_place_whole_or_not_at_all(site: Site, place: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        hold(site.content() | place)
    assert caught.value.code == "trust.malformed"


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of all values in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for name, child in items for one in paths(child, (*path, name)))]


VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4) | st.just([]) | st.just({})


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = new
    return changed


def mutated(data: st.DataObject, value: Any) -> Any:
    """Return a JSON value with one field changed, gone, doubled or added."""
    path = data.draw(st.sampled_from(paths(value)))
    old = value
    for name in path:
        old = old[name]
    choices = [VALUES]
    if isinstance(old, str) and old:
        at = data.draw(st.integers(0, len(old) - 1))
        choices.append(st.just(old[:at] + ("A" if old[at] != "A" else "B") + old[at + 1 :]))
    if isinstance(old, int):
        choices.append(st.just(old + 1))
    if isinstance(old, dict):
        choices.append(st.just(old | {"more": 1}))
        choices += [st.just({k: v for k, v in old.items() if k != name}) for name in old]
    if isinstance(old, list) and old:
        choices += [st.just(old[1:]), st.just([*old, old[0]]), st.just(old[::-1])]
    new = data.draw(st.one_of(choices))
    return put(value, path, new)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutated_field_of_an_update_passes(site: Site, data: st.DataObject) -> None:
    """Neither of the envelope, nor of what is signed."""
    held = hold(site.documents[0])
    if len(site.steps) == 1:
        site.rotate("evidence", "Ed25519")
        site.publish()
    good = site.steps[1]
    if data.draw(st.booleans()):
        bad = mutated(data, good)
    else:
        statement = json.loads(base64.b64decode(good["payload"]))
        payload = json.dumps(mutated(data, statement), sort_keys=True, separators=(",", ":")).encode()
        bad = good | {"payload": base64.b64encode(payload).decode()}
    if bad == good:
        return
    with pytest.raises(Integrity):
        update(held, [site.steps[0], bad])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_signed_is_either_refused_or_read_whole(site: Site, data: st.DataObject) -> None:
    """Good keys under a strange statement: no other error comes out of it, and nothing is taken that is no document."""
    held = hold(site.documents[0])
    document = site.drafted()
    step = write_step(document, site.signers(list(signing_keys(held.trust))))
    payload = canonical(mutated(data, json.loads(base64.b64decode(step["payload"]))))
    signatures = [
        {"keyid": one.key_id, "sig": base64.b64encode(one.sign(pae(PAYLOAD_TYPE, payload))).decode()}
        for one in site.signers(list(signing_keys(held.trust)))
    ]
    bad = step | {"payload": base64.b64encode(payload).decode(), "signatures": signatures}
    try:
        (taken,) = update(held, [bad])
    except Integrity:
        return
    assert taken.version == 2 and taken.trust.previous == held.digest
