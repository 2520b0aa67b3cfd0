"""Which of a log's keys counted when: rotated and revoked ledger keys, honest and stolen (R10.5)."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.note import COSIGNATURE_ED25519, Vkey, join, parse, parse_vkey, sign_line
from qcos.ledger.pinned import PinnedVkey, pin, read_pinned
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.verify import verify_checkpoint

from .conftest import ORIGIN, make_signers

T0 = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
ROTATED = T0 + 100 * HOUR
HEAD = Checkpoint(ORIGIN, 9, bytes(32))


@pytest.fixture(scope="module")
def old() -> LedgerSigners:
    return make_signers()


@pytest.fixture(scope="module")
def new() -> LedgerSigners:
    return make_signers()


def note(signers: LedgerSigners, at: dt.datetime) -> str:
    return signers.sign(HEAD, int(at.timestamp()))


def pinned(signers: LedgerSigners, **validity: dt.datetime) -> list[PinnedVkey]:
    return [replace(pin(vkey), **validity) for vkey in signers.vkeys]


def demand(text: str, keys: list[PinnedVkey]) -> None:
    assert verify_checkpoint(text, keys)[0] == HEAD


def refused(text: str, keys: list[PinnedVkey]) -> str:
    with pytest.raises(Integrity) as caught:
        verify_checkpoint(text, keys)
    return caught.value.code


def test_after_a_rotation_old_and_new_checkpoints_verify(old: LedgerSigners, new: LedgerSigners) -> None:
    keys = [*pinned(old, not_before=T0, not_after=ROTATED + HOUR), *pinned(new, not_before=ROTATED)]
    demand(note(old, ROTATED - HOUR), keys)
    demand(note(old, ROTATED + HOUR), keys)  # the overlap
    demand(note(new, ROTATED + 2 * HOUR), keys)


def test_a_retired_key_signs_no_new_checkpoint(old: LedgerSigners, new: LedgerSigners) -> None:
    keys = [*pinned(old, not_before=T0, not_after=ROTATED + HOUR), *pinned(new, not_before=ROTATED)]
    assert refused(note(old, ROTATED + 2 * HOUR), keys) == "ledger.key_validity"
    assert refused(note(new, ROTATED - 2 * HOUR), keys) == "ledger.key_validity", "before it was made"
    assert refused(old.sign(HEAD, 0), keys) == "ledger.key_validity", "no time is stated"


def test_keys_of_two_generations_do_not_add_up_to_one(old: LedgerSigners, new: LedgerSigners) -> None:
    """One stolen retired key cannot stand in for the algorithm of which the new key did not sign."""
    keys = [*pinned(old, not_before=T0, not_after=ROTATED + HOUR), *pinned(new, not_before=ROTATED)]
    mixed = LedgerSigners(old.ed25519, new.mldsa44, new.mldsa65, ORIGIN)
    assert refused(note(mixed, ROTATED + 2 * HOUR), keys) == "ledger.key_validity"
    demand(note(mixed, ROTATED + HOUR / 2), keys)


def test_both_generations_may_sign_one_checkpoint(old: LedgerSigners, new: LedgerSigners) -> None:
    keys = [*pinned(old, not_before=T0, not_after=ROTATED), *pinned(new, not_before=ROTATED)]
    at = int((ROTATED + HOUR).timestamp())
    both = join(HEAD.body, [*parse(old.sign(HEAD, at))[1], *parse(new.sign(HEAD, at))[1]])
    demand(both, keys)


def test_a_stolen_key_states_any_time_and_convinces_nobody(old: LedgerSigners, new: LedgerSigners) -> None:
    """A revoked key's own word on when it signed is worth nothing."""
    keys = [
        *pinned(old, not_before=T0, not_after=ROTATED, revoked_at=ROTATED),
        *pinned(new, not_before=ROTATED),
    ]
    assert refused(note(old, ROTATED - HOUR), keys) == "ledger.key_validity"
    assert refused(note(old, ROTATED + HOUR), keys) == "ledger.key_validity"
    demand(note(new, ROTATED + HOUR), keys)


def test_an_old_checkpoint_holds_when_a_cosigner_that_is_not_revoked_dates_it(
    old: LedgerSigners, new: LedgerSigners
) -> None:
    """Only Ed25519 was revoked: the log's ML-DSA-44 key still says when; so would a witness."""
    revoked = {parse_vkey(old.vkeys[0])}
    keys = [
        replace(key, revoked_at=ROTATED) if key.vkey in revoked else key for key in pinned(old, not_before=T0)
    ]
    demand(note(old, ROTATED - HOUR), keys)
    assert refused(note(old, ROTATED), keys) == "ledger.key_validity"

    witness = make_signers().ed25519
    vkey = Vkey("witness.test/w1", COSIGNATURE_ED25519, witness.public_bytes)
    everything = [*pinned(old, not_before=T0, revoked_at=ROTATED), PinnedVkey(vkey)]
    for at, ok in ((ROTATED - HOUR, True), (ROTATED + HOUR, False)):
        text, lines = parse(note(old, ROTATED - 2 * HOUR))
        seen = join(text, [*lines, sign_line(vkey, text, witness.sign, int(at.timestamp()))])
        if ok:
            demand(seen, everything)
        else:
            assert refused(seen, everything) == "ledger.key_validity"


def test_an_algorithm_that_came_later_is_not_demanded_before(old: LedgerSigners) -> None:
    keys = pinned(old, not_before=T0)
    keys[2] = replace(keys[2], not_before=ROTATED)
    text, lines = parse(note(old, ROTATED - HOUR))
    demand(join(text, lines[:2]), keys)
    text, lines = parse(note(old, ROTATED + HOUR))
    assert refused(join(text, lines[:2]), keys) == "ledger.unsigned"


def test_a_time_out_of_the_calendar_is_after_everything(old: LedgerSigners) -> None:
    odd = old.sign(HEAD, 2**62)
    assert refused(odd, pinned(old, not_before=T0, not_after=ROTATED)) == "ledger.key_validity"
    assert refused(odd, pinned(old, revoked_at=ROTATED)) == "ledger.key_validity"
    demand(odd, pinned(old, not_before=T0))


def test_a_members_unknown_restriction_is_not_ignored(old: LedgerSigners) -> None:
    entry = {"vkey": old.vkeys[0], "notBefore": rfc3339(T0), "revokedAt": rfc3339(ROTATED)}
    assert read_pinned(entry) == replace(pin(old.vkeys[0]), not_before=T0, revoked_at=ROTATED)
    with pytest.raises(ValueError, match="onlyFor"):
        read_pinned(entry | {"onlyFor": "x"})
    with pytest.raises(Invalid):
        read_pinned({"vkey": "x"})
