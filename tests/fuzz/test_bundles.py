"""R4.2, R4.3: sealed documents of every form, with every field mutated: none verifies, and each gets a report with its reason.

The forms are those of `forms.NAMES`. What repeats another member (the signatures shown, the ``.tlog-proof``) is also changed in
step with it, so that a mutation meets the check it belongs to and not only the comparison of the two.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms, core
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from evidence.test_renewal import attach_renewals
from qcos.base.canonical import loads_strict
from qcos.base.errors import QcosError
from qcos.evidence.bundle import record_of
from qcos.evidence.envelope import to_base64
from qcos.evidence.report import Report

from .forms import NAMES, Form, in_step, make_form
from .mutate import (
    Mutation,
    at,
    changed_base64,
    changed_leaves,
    changed_lists,
    changed_members,
    containers,
    doubled_members,
    put,
    same,
)

P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
LEAST = {"leaves": 300, "members": 40, "bytes": 100, "texts": 120, "splices": 30}
"""Mutations a form must have at least: a list that came out empty would prove nothing."""


@pytest.fixture(scope="module", params=NAMES)
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Form:
    return make_form(request.param, tmp_path_factory.mktemp(request.param))


def refused(report: Report, what: str) -> None:
    """Demand a report that refuses, says why in text that can be printed, and knew what it was doing."""
    assert not report.ok, f"passes with {what}"
    assert not report.erased, f"passes for erased with {what}"
    assert report.reason, what
    assert "\n".join(report.lines()).encode(), what
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False
    if all(check.ok for check in report.checks if check.name.startswith("signature ")):
        # Of a statement that nobody signed any member may be missing; of what was signed the verifier knows the form.
        unforeseen = [check for check in report.checks if check.code == "evidence.unexpected"]
        assert not unforeseen, f"{what}: {unforeseen[0].name} broke down: {unforeseen[0].got}"


def none_passes(form: Form, mutations: Iterable[Mutation], least: int) -> None:
    count = 0
    for what, changed in mutations:
        assert not same(changed, form.one), f"{what} is no change"
        refused(form.verify(changed), what)
        count += 1
    assert count >= least


def twice(mutations: Iterable[Mutation]) -> Iterator[Mutation]:
    """Yield each mutation as it is, and with what repeats it changed in step where that differs."""
    for what, changed in mutations:
        yield what, changed
        if "proof" in what and not same(stepped := in_step(changed), changed):
            yield f"{what}, and what repeats it", stepped


def test_both_documents_of_a_form_pass(form: Form) -> None:
    for document in (form.one, form.two):
        report = form.verify(document)
        assert report.ok, report.reason
        assert same(in_step(document), document)
        assert same(loads_strict(json.dumps(document)), document)
    assert not same(form.one, form.two)


def test_no_leaf_can_be_another(form: Form) -> None:
    mutations = (
        (what, changed)
        for what, changed in twice(changed_leaves(form.one))
        if not same(changed, form.one)  # a repetition alone was changed: in step it is as it was
    )
    none_passes(form, mutations, LEAST["leaves"])


def test_no_member_or_item_can_be_missing_more_or_moved(form: Form) -> None:
    both = itertools.chain(changed_members(form.one), changed_lists(form.one))
    mutations = (
        (what, changed)
        for what, changed in twice(both)
        if not same(changed, form.one)  # as above
    )
    none_passes(form, mutations, LEAST["members"])


def test_no_byte_below_the_base64_can_be_another(form: Form) -> None:
    mutations = changed_base64(form.one, 16, random.Random(11), in_step)
    none_passes(form, (one for one in mutations if not same(one[1], form.one)), LEAST["bytes"])


def test_no_member_can_stand_twice(form: Form) -> None:
    count = 0
    for what, text in doubled_members(form.one):
        for form_of_it in (text, text.encode()):
            refused(form.verify(form_of_it), what)
            count += 1
    assert count >= LEAST["texts"]


def test_nothing_can_be_taken_from_another_bundle(form: Form) -> None:
    """Every member and item, and every set of the proof's parts, taken from another one that verifies."""
    places = [
        (*path, step) for path, value in containers(form.one) if isinstance(value, dict) for step in value
    ]
    parts = [("proof", name) for name in form.one["proof"]]
    heads = [(name,) for name in form.one if name != "proof"]
    sets: list[list[tuple[str | int, ...]]] = [[place] for place in places]
    for size in range(1, len(parts) + 1):
        for some in itertools.combinations(parts, size):
            sets += [list(some), [*some, *heads]]
    count = 0
    for some_places in sets:
        changed = copy.deepcopy(form.one)
        for place in some_places:
            try:
                changed = put(changed, place, at(form.two, place))
            except LookupError:
                break
        for mixed in (changed, in_step(changed)):
            if not same(mixed, form.one) and not same(mixed, form.two):  # those two are as true as they were
                refused(form.verify(mixed), f"{some_places} of another")
                count += 1
    assert count >= LEAST["splices"]


@settings(
    max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking 30 kB takes minutes
@given(st.data())
def test_no_character_of_the_text_can_be_another(form: Form, data: st.DataObject) -> None:
    """Characters changed, put in, taken out, and pieces moved: refused, unless JSON says that it is the same value."""
    text = json.dumps(form.one)
    for _ in range(4):
        start = data.draw(st.integers(0, len(text) - 1))
        end = min(len(text), start + data.draw(st.sampled_from([0, 1, 1, 1, 2, 8, 4000])))
        other = data.draw(
            st.one_of(
                st.text(max_size=3), st.sampled_from([text[:start], text[start:], "\ufeff", "//", "\\u0000"])
            )
        )
        changed = text[:start] + other + text[end:]
        try:
            neutral = same(loads_strict(changed), form.one)
        except QcosError:
            neutral = False
        report = form.verify(changed)
        if neutral:
            assert report.ok, report.reason
        else:
            refused(report, f"{other!r:.40} for characters {start} to {end}")


def test_the_other_spelling_of_an_ecdsa_signature_is_not_what_was_recorded(form: Form) -> None:
    """Whoever has (r, s) can write (r, n - s), which holds too; the ledger has recorded the bytes that were sealed.

    Of a document that is not in the ledger yet nothing has: there the other spelling passes, marked as pending.
    """
    if "timestamp" not in form.one["proof"]:
        return  # erased: it holds no such signature
    places = [("proof", "timestamp")]
    if len(form.one["proof"]["envelope"]["signatures"]) == 3:
        places.append(("proof", "envelope", "signatures", 2, "sig"))
    for place in places:
        data = base64.b64decode(at(form.one, place))
        changed = in_step(put(form.one, place, base64.b64encode(other_spelling(data)).decode()))
        assert not same(changed, form.one)
        report = form.verify(changed)
        assert report.ok is report.pending is ("allow_pending" in form.options)
        wrong = {check.name for check in report.checks if not check.ok}
        assert report.pending or wrong & {"ledger record", "timestamp"}


def other_spelling(data: bytes) -> bytes:
    """Return a P-384 signature, or a token signed with one, with n - s for s."""
    outer = core.Sequence.load(data)
    if outer[0].__class__ is core.Integer:
        return encode_dss_signature(outer[0].native, P384_ORDER - outer[1].native)
    token = cms.ContentInfo.load(data)
    signer = token["content"]["signer_infos"][0]
    r, s = decode_dss_signature(signer["signature"].native)
    signature = encode_dss_signature(r, P384_ORDER - s)
    signer["signature"] = core.OctetString(signature)
    dumped: bytes = token.dump(force=True)
    return dumped


def test_an_unknown_form_of_document_is_refused(form: Form) -> None:
    kinds: list[Any] = [{}, "", "null", "0", b"", json.dumps([form.one]), json.dumps(json.dumps(form.one))]
    kinds += [json.dumps(form.one)[:-1], json.dumps(form.one) + "{}", json.dumps(form.one).encode("utf-16")]
    for given_ in kinds:
        refused(form.verify(given_), repr(given_)[:60])


def test_the_newest_renewal_may_be_spelled_otherwise_and_says_the_same(tmp_path: Path) -> None:
    """Nothing covers it yet but its own signature; what it states, and of what, is the same. The next renewal covers its bytes."""
    form = make_form("renewed", tmp_path)
    record = record_of(form.one)
    last = dataclasses.replace(record.last, token=other_spelling(record.last.token))
    changed = attach_renewals(
        put(form.one, ("proof", "evidenceRecord"), to_base64(record.original().encode())), [last]
    )
    assert not same(changed, form.one)
    report = form.verify(changed)
    assert report.ok
    assert report.facts == form.verify(form.one).facts
