"""What a verifier trusts about a ledger: its keys and its witnesses, from a trust document. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcos.base.errors import Invalid
from qcos.ledger.note import Vkey
from qcos.ledger.pinned import PinnedVkey, read_pinned
from qcos.ledger.quorum import NOBODY, Policy, read_witnesses


@dataclass(frozen=True, slots=True)
class LedgerTrust:
    """What is demanded of a checkpoint.

    Attributes:
        vkeys: The log's verifier keys (C2SP signed-note), and when they count.
        witnesses: Whose cosignatures are demanded; by default nobody's.
    """

    vkeys: tuple[PinnedVkey, ...]
    witnesses: Policy = NOBODY


def read_ledger_trust(document: Mapping[str, Any]) -> LedgerTrust:  # Any: JSON of a file
    """Read the members ``ledger`` and ``witnesses`` of a trust document.

    Raises:
        Invalid: ``trust.ledger`` when it names no key of a ledger, ``ledger.vkey``, ``ledger.policy``.
    """
    listed = document.get("ledger")
    items = listed if isinstance(listed, list) else []
    try:
        vkeys = tuple(read_pinned(item) for item in items)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(
            "trust.ledger", "a ledger key of the trust document cannot be read", got=str(error)[:200]
        ) from None
    if not vkeys:
        raise Invalid("trust.ledger", "the trust document names no key of a ledger, or not only keys")
    return LedgerTrust(vkeys, witnesses_of(document, [key.vkey for key in vkeys]))


def witnesses_of(document: Mapping[str, Any], logs: Sequence[Vkey]) -> Policy:  # Any: JSON of a file
    """Return the policy of witnesses of a trust document; one that demands nothing when it has none.

    Raises:
        Invalid: ``ledger.policy``; also as `fitting`.
    """
    return fitting(read_witnesses(document["witnesses"]), logs) if "witnesses" in document else NOBODY


def fitting(policy: Policy, logs: Sequence[Vkey]) -> Policy:
    """Return a policy of witnesses if it fits to a log.

    Raises:
        Invalid: ``ledger.policy`` when a witness has a key of the log itself, or the policy names other logs
            only.
    """
    own = {log.public for log in logs}
    if any(vkey.public in own for vkey in policy.vkeys):
        raise Invalid("ledger.policy", "a log cannot be its own witness", expected="a key of somebody else")
    if policy.logs and not any(known.vkey in logs for known in policy.logs):
        raise Invalid(
            "ledger.policy",
            "the policy of witnesses is for another log",
            expected=", ".join(dict.fromkeys(log.name for log in logs))[:200],
            got=", ".join(dict.fromkeys(known.name for known in policy.logs))[:200],
        )
    return policy
