"""Policies of witnesses (C2SP tlog-policy): read strictly, judged, demanded of checkpoints."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA44,
    ED25519,
    Line,
    Vkey,
    join,
    parse,
    sign_line,
)
from qcos.ledger.quorum import Policy, read_policy, read_witnesses
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.trust import read_ledger_trust
from qcos.ledger.verify import verify_checkpoint

from .conftest import ORIGIN, Key, make_signers

NOW = 1_790_000_000
KEYS = {f"w{n}": make_signers(f"w{n}.example") for n in range(6)}
VKEYS = {name: Vkey(keys.name, COSIGNATURE_MLDSA44, keys.mldsa44.public_bytes) for name, keys in KEYS.items()}
WITNESSES = "".join(f"witness {name} {vkey} https://{name}.example/\n" for name, vkey in VKEYS.items())


def cosign(name: str, checkpoint: Checkpoint, time: int = NOW) -> Line:
    key = KEYS[name].mldsa44
    return sign_line(VKEYS[name], checkpoint.body, key.sign, time)


def met(policy: Policy, *names: str) -> bool:
    return policy.met(VKEYS[name] for name in names)


def test_the_example_of_the_specification_means_what_it_says() -> None:
    """Two of the X witnesses and any of the Y witnesses."""
    text = WITNESSES + (
        "\n# two organisations\n  group X-witnesses\t2 w0 w1 w2\n group Y-witnesses any w3 w4 w5\n"
        "group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
    policy = read_policy(text)
    for count in range(7):
        for names in itertools.combinations(VKEYS, count):
            xs = sum(name in ("w0", "w1", "w2") for name in names)
            assert met(policy, *names) is (xs >= 2 and len(names) > xs), names
    assert policy.witnesses["w3"].url == "https://w3.example/"
    described = "2 of (2 of (w0.example, w1.example, w2.example), 1 of (w3.example, w4.example, w5.example))"
    assert policy.describe() == described
    again = policy.as_trust()
    assert again is not None and list(again) == ["policy"]
    kept = read_witnesses(again)
    assert (kept.quorum, kept.groups, kept.vkeys) == (policy.quorum, policy.groups, policy.vkeys)
    assert not any(witness.url for witness in kept.witnesses.values())  # addresses are the server's own


@given(st.integers(1, 6), st.sets(st.sampled_from(sorted(VKEYS))))
def test_k_of_n(k: int, names: set[str]) -> None:
    policy = read_policy(WITNESSES + f"group all-of-them {k} {' '.join(VKEYS)}\nquorum all-of-them\n")
    assert met(policy, *names) is (len(names) >= k)
    trust = policy.as_trust()
    assert trust == {"quorum": k, "keys": [{"vkey": str(vkey)} for vkey in VKEYS.values()]}
    assert met(read_witnesses(trust), *names) is (len(names) >= k)


def test_a_single_witness_and_none() -> None:
    policy = read_policy(WITNESSES + "quorum w2")  # the last newline may be missing
    assert met(policy, "w2") and not met(policy, "w1", "w3")
    assert met(read_policy("quorum none\n"))
    assert read_policy(WITNESSES + "quorum none\n").as_trust() is None
    assert met(read_witnesses({"quorum": 0, "keys": []}))


def test_names_are_bytes_and_line_ends_are_newlines_only() -> None:
    vkey = str(VKEYS["w0"])
    policy = read_policy(f"witness \xff\xfe {vkey}\nquorum \xff\xfe\n".encode("latin-1"))
    assert policy.met([VKEYS["w0"]])
    with pytest.raises(Invalid):
        read_policy(f"witness K {vkey}\nquorum \u212a\n")  # a Kelvin sign is another name
    with pytest.raises(Invalid):
        read_policy(f"witness a\u2003b {vkey}\nquorum a\n")  # only spaces and tabs separate
    with pytest.raises(Invalid, match="control character"):
        read_policy(f"witness a {vkey}\r\nquorum a\r\n")


LOG = str(Vkey(ORIGIN, ED25519, b"\1" * 32))
ED = str(Vkey("e", COSIGNATURE_ED25519, b"\2" * 32))
SAME = str(Vkey("f", COSIGNATURE_ED25519, b"\2" * 32))
A, B = VKEYS["w0"], VKEYS["w1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "quorum none\nquorum none\n",
        "quorum a\n",
        f"quorum a\nwitness a {A}\n",
        f"witness a {A}\nwitness a {B}\nquorum a\n",
        f"witness none {A}\nquorum none\n",
        f"witness a {ED}\nwitness b {SAME}\nquorum a\n",
        f"witness a {LOG}\nquorum a\n",
        f"log {ED}\nquorum none\n",
        f"log {LOG}\nlog {LOG}\nquorum none\n",
        f"witness a {A} https://a extra\nquorum a\n",
        f"witness a {A}\ngroup g any\nquorum g\n",
        f"witness a {A}\ngroup g 0 a\nquorum g\n",
        f"witness a {A}\ngroup g 2 a\nquorum g\n",
        f"witness a {A}\ngroup g 01 a\nquorum g\n",
        f"witness a {A}\ngroup g \u0661 a\nquorum g\n",
        f"witness a {A}\ngroup g any a a\nquorum g\n",
        f"witness a {A}\ngroup g any a\ngroup h any a\nquorum g\n",
        f"witness a {A}\ngroup g any none\nquorum g\n",
        f"group g any h\nwitness a {A}\ngroup h any a\nquorum g\n",
        f"witness a {A}\ngroup a any a\nquorum a\n",
        "witness a not-a-key\nquorum a\n",
        "quorum none\0\n",
        "quorum  none x\n",
        "Quorum none\n",
        "#" * 600_000 + "\nquorum none\n",
        "".join(f"group g{n} any w{n}\n" for n in range(3)) + "quorum none\n",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_policy(text)
    assert caught.value.code in ("ledger.policy", "ledger.vkey")


def test_a_policy_may_have_many_members_and_not_too_many() -> None:
    keys = [str(Vkey(f"w{n}", COSIGNATURE_ED25519, n.to_bytes(32, "big"))) for n in range(101)]
    lines = [f"witness w{n} {key}\n" for n, key in enumerate(keys)]
    read_policy("".join(lines[:100]) + "quorum w1\n")
    with pytest.raises(Invalid, match="more than 100"):
        read_policy("".join(lines) + "quorum w1\n")


@pytest.mark.parametrize(
    "member",
    [
        None,
        [],
        {},
        {"quorum": 1},
        {"quorum": True, "keys": [{"vkey": str(A)}]},
        {"quorum": -1, "keys": []},
        {"quorum": 1, "keys": []},
        {"quorum": 2, "keys": [{"vkey": str(A)}]},
        {"quorum": 1, "keys": [{"vkey": str(A)}, {"vkey": str(A)}]},
        {"quorum": 1, "keys": ["x"]},
        {"quorum": 1, "keys": [{"vkey": "x"}]},
        {"quorum": 1, "keys": [{"vkey": LOG}]},
        {"quorum": 1, "keys": [{"vkey": str(A)}], "policy": "quorum none\n"},
        {"policy": 7},
        {"policy": "quorum x\n"},
    ],
)
def test_what_is_no_member_of_a_trust_document_is_refused(member: object) -> None:
    """A verifier that read it as no demand would let a split view pass."""
    with pytest.raises(Invalid):
        read_ledger_trust({"ledger": [{"vkey": LOG}], "witnesses": member})


def test_two_keys_of_one_witness_count_once() -> None:
    name = KEYS["w0"].name
    classical = Vkey(name, COSIGNATURE_ED25519, KEYS["w0"].ed25519.public_bytes)
    keys = [{"vkey": str(vkey)} for vkey in (VKEYS["w0"], classical, VKEYS["w1"])]
    policy = read_witnesses({"quorum": 2, "keys": keys})
    assert not policy.met([VKEYS["w0"], classical])
    assert policy.met([classical, VKEYS["w1"]])
    assert policy.describe() == "2 of (w0.example, w1.example)"
    with pytest.raises(Invalid):
        read_witnesses({"quorum": 3, "keys": keys})


def test_a_log_is_not_its_own_witness(signers: LedgerSigners) -> None:
    own = str(Vkey("w.example", COSIGNATURE_MLDSA44, signers.mldsa44.public_bytes))
    with pytest.raises(Invalid, match="its own witness"):
        read_ledger_trust(
            {
                "ledger": [{"vkey": vkey} for vkey in signers.vkeys],
                "witnesses": {"quorum": 1, "keys": [{"vkey": own}]},
            }
        )
    with pytest.raises(Invalid, match="another log"):
        read_ledger_trust(
            {
                "ledger": [{"vkey": vkey} for vkey in signers.vkeys],
                "witnesses": {"policy": f"log {LOG}\nquorum none\n"},
            }
        )


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(ORIGIN, 7, b"\7" * 32)


@pytest.fixture(scope="module")
def witnessed(signers: LedgerSigners, checkpoint: Checkpoint) -> str:
    text, lines = parse(signers.sign(checkpoint, NOW))
    return join(text, [*lines, cosign("w0", checkpoint), cosign("w1", checkpoint, NOW + 3)])


TWO_OF_THREE = read_policy(WITNESSES + "group three 2 w0 w1 w2\nquorum three\n")


def test_the_quorum_is_demanded_and_its_times_are_told(signers: LedgerSigners, witnessed: str) -> None:
    _, signatures = verify_checkpoint(witnessed, signers.vkeys, TWO_OF_THREE)
    told = {one.vkey.name: one.time for one in TWO_OF_THREE.demand(signatures)}
    assert told == {"w0.example": NOW, "w1.example": NOW + 3}


def test_without_enough_cosignatures_nothing_is_verified(
    signers: LedgerSigners, checkpoint: Checkpoint, witnessed: str
) -> None:
    """One stripped, repeated, of no time, of somebody unknown, of another tree."""
    text, lines = parse(witnessed)
    own, (first, second) = lines[:3], lines[3:]
    stranger = sign_line(
        Vkey("w9", COSIGNATURE_MLDSA44, KEYS["w3"].mldsa44.public_bytes), text, KEYS["w3"].mldsa44.sign, NOW
    )
    for cosignatures in (
        [],
        [first],
        [first, first],
        [first, stranger],
        [first, cosign("w3", checkpoint)],
        [first, cosign("w1", checkpoint, 0)],
    ):
        note = join(text, [*own, *cosignatures])
        with pytest.raises(Integrity) as caught:
            verify_checkpoint(note, signers.vkeys, TWO_OF_THREE)
        assert caught.value.code == "ledger.unwitnessed"
        assert "2 of (w0.example, w1.example, w2.example)" in caught.value.expected
        verify_checkpoint(note, signers.vkeys)  # nobody demanded witnesses
    other = Checkpoint(ORIGIN, 7, b"\x08" * 32)
    for wrong in (cosign("w1", other), Line(second.name, second.key_id, second.signature[:-1] + b"\0")):
        with pytest.raises(Integrity) as caught:
            verify_checkpoint(join(text, [*own, first, wrong]), signers.vkeys, TWO_OF_THREE)
        assert caught.value.code == "ledger.signature"
    with pytest.raises(Integrity) as caught:  # witnesses do not stand in for the log
        verify_checkpoint(join(text, [*own[:1], first, second]), signers.vkeys, TWO_OF_THREE)
    assert caught.value.code == "ledger.unsigned"


def test_a_witness_with_the_logs_name_is_no_key_of_the_log(
    signers: LedgerSigners, checkpoint: Checkpoint
) -> None:
    """Else its signature would be demanded of the log, or stand in for the log's."""
    key = Key("ML-DSA-44", KEYS["w0"].mldsa44.key)  # type: ignore[attr-defined]
    vkey = Vkey(ORIGIN, COSIGNATURE_MLDSA44, key.public_bytes)
    policy = read_witnesses({"quorum": 1, "keys": [{"vkey": str(vkey)}]})
    text, lines = parse(signers.sign(checkpoint, NOW))
    extra = sign_line(vkey, text, key.sign, NOW)
    verify_checkpoint(join(text, [*lines, extra]), signers.vkeys, policy)
    without = [line for line in lines if line.key_id != lines[1].key_id]
    with pytest.raises(Integrity) as caught:
        verify_checkpoint(join(text, [*without, extra]), signers.vkeys, policy)
    assert caught.value.code == "ledger.unsigned"


@given(
    st.binary(max_size=300) | st.text(alphabet="witness log group quorum none any all 12\t\n", max_size=300)
)
def test_any_text_is_a_policy_or_an_error_of_ours(data: bytes | str) -> None:
    try:
        policy = read_policy(data)
    except Invalid:
        return
    assert policy.met(VKEYS.values()) in (True, False)
