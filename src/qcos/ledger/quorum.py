"""Which witnesses' cosignatures are enough: C2SP tlog-policy, read strictly, and judged. Pure.

A policy is a text of lines ``log <vkey> [<url>]``, ``witness <name> <vkey> [<url>]``,
``group <name> any|all|<k> <name>...`` and one ``quorum <name>|none``. Its names mean nothing outside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qcos.base.errors import Integrity, Invalid
from qcos.base.limits import MAX_WITNESS_POLICY_BYTES, MAX_WITNESSES
from qcos.ledger.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA44,
    ED25519,
    MLDSA65,
    Signed,
    Vkey,
    parse_vkey,
)

NONE: Final = "none"
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_DECIMAL: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_LOG_KINDS: Final = (ED25519, COSIGNATURE_MLDSA44, MLDSA65)
_WITNESS_KINDS: Final = (COSIGNATURE_ED25519, COSIGNATURE_MLDSA44)


@dataclass(frozen=True, slots=True)
class Known:
    """A log or a witness of a policy.

    Attributes:
        name: The policy's own name of it; for a log, its origin.
        vkey: Its key.
        url: Where it is reached: for a witness, its submission prefix; empty when the policy says none.
    """

    name: str
    vkey: Vkey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """At least ``least`` of the members."""

    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A trust policy for checkpoints.

    Attributes:
        quorum: Name of the witness or group that must have witnessed a checkpoint, or ``none``.
        witnesses: The witnesses by name.
        groups: The groups by name.
        logs: The logs the policy is for; empty when that is known otherwise.
    """

    quorum: str = NONE
    witnesses: Mapping[str, Known] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    logs: tuple[Known, ...] = ()

    @property
    def vkeys(self) -> tuple[Vkey, ...]:
        """Return the witnesses' keys."""
        return tuple(witness.vkey for witness in self.witnesses.values())

    def met(self, signed: Iterable[Vkey]) -> bool:
        """Return whether cosignatures by these keys are enough."""
        keys = set(signed)
        witnessed = {name for name, witness in self.witnesses.items() if witness.vkey in keys}
        for name, group in self.groups.items():  # a group names only what stands before it
            if sum(member in witnessed for member in group.members) >= group.least:
                witnessed.add(name)
        return self.quorum == NONE or self.quorum in witnessed

    def demand(self, signatures: Sequence[Signed]) -> tuple[Signed, ...]:
        """Return the witnesses' cosignatures among signatures that hold.

        One that states no time is none: a witness must state when (tlog-witness).

        Raises:
            Integrity: ``ledger.unwitnessed`` when they are not enough.
        """
        own = set(self.vkeys)
        found = tuple(one for one in signatures if one.vkey in own and one.time)
        if not self.met(one.vkey for one in found):
            raise Integrity(
                "ledger.unwitnessed",
                "too few witnesses have cosigned the checkpoint",
                expected=f"cosignatures by {self.describe()}"[:300],
                got=", ".join(dict.fromkeys(one.vkey.name for one in found))[:300] or "none that counts",
            )
        return found

    def describe(self, name: str | None = None) -> str:
        """Return the quorum in words, ``2 of (w1, w2, w3)``."""
        name = self.quorum if name is None else name
        if name in self.witnesses:
            return self.witnesses[name].vkey.name
        if name not in self.groups:
            return "no witness"
        group = self.groups[name]
        members = list(dict.fromkeys(self.describe(member) for member in group.members))
        return f"{group.least} of ({', '.join(members)})" if len(members) > 1 else members[0]

    def as_trust(self) -> dict[str, Any] | None:  # Any: JSON
        """Return the member ``witnesses`` of a trust document; None when no witness is demanded.

        Raises:
            Invalid: ``ledger.policy`` when a name is not UTF-8: JSON cannot carry it.
        """
        if self.quorum == NONE:
            return None
        group = self.groups.get(self.quorum, Group(1, (self.quorum,)))
        names = [self.witnesses[member].vkey.name for member in group.members if member in self.witnesses]
        if len(names) == len(group.members) == len(set(names)):
            keys = [{"vkey": str(self.witnesses[member].vkey)} for member in group.members]
            return {"quorum": group.least, "keys": keys}
        text = "".join(f"{line}\n" for line in self._lines())
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _bad("a name in it is not UTF-8") from None
        return {"policy": text}

    def _lines(self) -> Iterator[str]:
        for name, witness in self.witnesses.items():
            yield f"witness {name} {witness.vkey}"
        for name, group in self.groups.items():
            yield f"group {name} {group.least} {' '.join(group.members)}"
        yield f"quorum {self.quorum}"


NOBODY: Final = Policy()
"""Demands no witness."""


def read_policy(text: bytes | str) -> Policy:
    """Read a policy text (C2SP tlog-policy).

    Raises:
        Invalid: ``ledger.policy`` with the line and what is wrong with it; ``ledger.vkey``.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if len(data) > MAX_WITNESS_POLICY_BYTES:
        raise _bad(f"longer than {MAX_WITNESS_POLICY_BYTES} bytes")
    if found := _FORBIDDEN.search(data):
        raise _bad(f"it holds the control character {found[0]!r}")
    reader = _Reader()
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        words = [word for word in re.split("[ \t]+", line) if word]
        if words and not words[0].startswith("#"):
            try:
                reader.line(words)
            except Invalid as error:
                error.subject = f"line {number}"
                raise
    return reader.policy()


def read_witnesses(member: Any) -> Policy:  # Any: JSON of a trust document
    """Read the member ``witnesses`` of a trust document: ``{"quorum", "keys"}`` or ``{"policy"}``.

    In the first form a witness may have several keys under one name; it counts once.

    Raises:
        Invalid: ``ledger.policy`` or ``ledger.vkey``.
    """
    if not isinstance(member, Mapping):
        raise _bad("it is no object")
    if set(member) == {"policy"} and isinstance(member["policy"], str):
        return read_policy(member["policy"])
    if set(member) != {"quorum", "keys"} or not isinstance(member["keys"], list):
        raise _bad('it has neither "quorum" and "keys" nor "policy"')
    reader = _Reader()
    names: dict[str, list[str]] = {}
    for number, key in enumerate(member["keys"]):
        if not isinstance(key, Mapping) or not isinstance(key.get("vkey"), str):
            raise _bad(f"/keys/{number} has no vkey")
        known = reader.witness(f"key-{number}", key["vkey"])
        names.setdefault(known.vkey.name, []).append(known.name)
    least = member["quorum"]
    if type(least) is not int or not 0 <= least <= len(names):
        raise _bad(f"the quorum is no number from 0 to {len(names)}, of witnesses with different names")
    if least:
        for number, keys in enumerate(names.values()):
            reader.group(f"witness-{number}", "any", keys)
        reader.group("quorum", str(least), [f"witness-{number}" for number in range(len(names))])
    reader.quorum = "quorum" if least else NONE
    return reader.policy()


class _Reader:
    """A policy as far as it was read."""

    def __init__(self) -> None:
        self.logs: list[Known] = []
        self.witnesses: dict[str, Known] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self.members: set[str] = set()

    def line(self, words: Sequence[str]) -> None:
        kind, *rest = words
        if kind == "log" and len(rest) in (1, 2):
            vkey = _vkey(rest[0], _LOG_KINDS, (log.vkey for log in self.logs))
            self.logs.append(Known(vkey.name, vkey, *rest[1:]))
        elif kind == "witness" and len(rest) in (2, 3):
            self.witness(*rest)
        elif kind == "group" and len(rest) >= 3:
            self.group(rest[0], rest[1], rest[2:])
        elif kind == "quorum" and len(rest) == 1:
            if self.quorum is not None:
                raise _bad("a second quorum line")
            if rest[0] != NONE:
                self._defined(rest[0])
            self.quorum = rest[0]
        else:
            raise _bad("no log, witness, group or quorum line", " ".join(words)[:80])
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > MAX_WITNESSES:
            raise _bad(f"more than {MAX_WITNESSES} logs, witnesses or groups")

    def witness(self, name: str, text: str, url: str = "") -> Known:
        self._new(name)
        vkey = _vkey(text, _WITNESS_KINDS, (one.vkey for one in self.witnesses.values()))
        self.witnesses[name] = Known(name, vkey, url)
        return self.witnesses[name]

    def group(self, name: str, least: str, members: Sequence[str]) -> None:
        self._new(name)
        for member in members:
            self._defined(member)
            if member in self.members:
                raise _bad("a name is a member twice: each witness counts in one way only", member)
            self.members.add(member)
        number = {"any": 1, "all": len(members)}.get(least)
        if number is None:
            number = int(least) if _DECIMAL.fullmatch(least) else 0
        if not 1 <= number <= len(members):
            raise _bad(f"the threshold is not any, all or a number from 1 to {len(members)}", least)
        self.groups[name] = Group(number, tuple(members))

    def policy(self) -> Policy:
        if self.quorum is None:
            raise _bad("it has no quorum line")
        return Policy(self.quorum, self.witnesses, self.groups, tuple(self.logs))

    def _new(self, name: str) -> None:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise _bad("a name is defined twice" if name != NONE else "the name none is taken", name)

    def _defined(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise _bad("a name that no line before defines", name)


def _vkey(text: str, kinds: Sequence[bytes], others: Iterable[Vkey]) -> Vkey:
    vkey = parse_vkey(text)
    if vkey.kind not in kinds:
        raise _bad("a key of a type that cannot serve here", vkey.algorithm)
    if any(vkey.public == other.public for other in others):
        raise _bad("the same public key twice", vkey.name)
    return vkey


def _bad(why: str, got: str = "") -> Invalid:
    return Invalid(
        "ledger.policy",
        f"not a policy of witnesses: {why}",
        got=got[:80].encode("utf-8", "replace").decode(),
        expected="as in C2SP tlog-policy",
    )
