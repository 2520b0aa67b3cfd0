"""Evidence records (RFC 4998): archive time stamps, in chains, in a sequence; their ASN.1, written and read.

An *archive time stamp* is a token over the root of a hash tree, with the reduced hash tree of one data
object. A *chain* holds time stamps of which each stamps the one before (time-stamp renewal); a new chain
begins when the hash gets weak (hash-tree renewal). Only what QCOS writes is read: no attributes, no
encryption, no algorithm of its own beside the token's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from asn1crypto import algos, cms, core

from qcos.base.errors import Integrity
from qcos.timestamp import der
from qcos.timestamp.request import DIGEST_SIZES, MALFORMED, algorithm
from qcos.timestamp.token import MAX_TOKEN_BYTES
from qcos.timestamp.tree import ReducedHashTree

MAX_RECORD_BYTES: Final = 2 * 1024 * 1024  # a renewal adds 2 to 4 kB; one a year for centuries
MAX_STAMPS: Final = 400  # archive time stamps in one record

RENEWAL_HASHES: Final = ("sha512", "sha3_512")
"""What archive time stamps are made with, in the order they go when one gets weak: never back."""

_TREE_TAG: Final = 0xA2  # [2] IMPLICIT SEQUENCE OF PartialHashtree


class _Partial(core.SequenceOf):  # type: ignore[misc] # asn1crypto carries no types
    _child_spec = core.OctetString


class _Reduced(core.SequenceOf):  # type: ignore[misc] # asn1crypto carries no types
    _child_spec = _Partial


class _Stamp(core.Sequence):  # type: ignore[misc] # asn1crypto carries no types
    _fields: Final = [
        ("reduced_hashtree", _Reduced, {"implicit": 2, "optional": True}),
        ("time_stamp", cms.ContentInfo),
    ]


class _Chain(core.SequenceOf):  # type: ignore[misc] # asn1crypto carries no types
    _child_spec = _Stamp


class _Chains(core.SequenceOf):  # type: ignore[misc] # asn1crypto carries no types
    _child_spec = _Chain


class _Digests(core.SequenceOf):  # type: ignore[misc] # asn1crypto carries no types
    _child_spec = algos.DigestAlgorithm


class _Record(core.Sequence):  # type: ignore[misc] # asn1crypto carries no types
    _fields: Final = [
        ("version", core.Integer),
        ("digest_algorithms", _Digests),
        ("sequence", _Chains),
    ]


@dataclass(frozen=True, slots=True)
class ArchiveStamp:
    """A token over a hash tree's root, and one object's way to that root.

    Attributes:
        token: DER TimeStampToken.
        tree: The object's reduced hash tree; empty when the token stamps the object's own hash.
    """

    token: bytes
    tree: ReducedHashTree = ()

    def encode(self) -> bytes:
        """Return the DER ArchiveTimeStamp."""
        if not self.tree:
            return der.tlv(der.SEQUENCE, self.token)
        lists = (
            der.tlv(der.SEQUENCE, *(der.tlv(der.OCTET_STRING, one) for one in hashes)) for hashes in self.tree
        )
        return der.tlv(der.SEQUENCE, der.tlv(_TREE_TAG, *lists), self.token)


Chain = tuple[ArchiveStamp, ...]


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """The archive time stamps of one data object.

    Attributes:
        chains: Oldest first; each has at least one stamp.
        hashes: The hash of each chain.
    """

    chains: tuple[Chain, ...]
    hashes: tuple[str, ...] = ("sha512",)

    @property
    def first(self) -> ArchiveStamp:
        """Return the initial archive time stamp."""
        return self.chains[0][0]

    @property
    def last(self) -> ArchiveStamp:
        """Return the newest archive time stamp."""
        return self.chains[-1][-1]

    @property
    def is_renewed(self) -> bool:
        """Return whether there are more time stamps than the initial one."""
        return self.last is not self.first

    def encode(self) -> bytes:
        """Return the DER EvidenceRecord, version 1."""
        digests = dict.fromkeys(self.hashes)
        return der.tlv(
            der.SEQUENCE,
            der.integer(1),
            der.tlv(der.SEQUENCE, *(algorithm(name) for name in digests)),
            encode_sequence(self.chains),
        )

    def renewed(self, stamp: ArchiveStamp) -> EvidenceRecord:
        """Return the record with one more time stamp in its newest chain (time-stamp renewal)."""
        return replace(self, chains=(*self.chains[:-1], (*self.chains[-1], stamp)))

    def rehashed(self, stamp: ArchiveStamp, hash_name: str) -> EvidenceRecord:
        """Return the record with one more chain (hash-tree renewal)."""
        return EvidenceRecord((*self.chains, (stamp,)), (*self.hashes, hash_name))

    def continued(self, stamp: ArchiveStamp) -> EvidenceRecord:
        """Return the record with one more time stamp: in its newest chain, or in a new one when it has another hash.

        Raises:
            Integrity: ``timestamp.record`` when the stamp's token is none.
        """
        try:
            hash_name = imprint_hash(stamp.token)
        except MALFORMED as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from None
        return self.renewed(stamp) if hash_name == self.hashes[-1] else self.rehashed(stamp, hash_name)

    def original(self) -> EvidenceRecord:
        """Return the record with its initial time stamp alone: as it was when the object was sealed."""
        return EvidenceRecord(((self.first,),), self.hashes[:1])


def encode_sequence(chains: tuple[Chain, ...]) -> bytes:
    """Return the DER ArchiveTimeStampSequence."""
    return der.tlv(
        der.SEQUENCE, *(der.tlv(der.SEQUENCE, *(stamp.encode() for stamp in chain)) for chain in chains)
    )


def hash_to_renew(record: EvidenceRecord) -> bytes:
    """Return what the next time stamp of the newest chain has to cover: the hash of the newest token (5.2)."""
    return hashlib.new(record.hashes[-1], record.last.token).digest()


def hash_to_rehash(chains: tuple[Chain, ...], data: bytes, hash_name: str) -> bytes:
    """Return what the first time stamp of a new chain has to cover: the object and all older chains (5.2).

    The hash of the object's hash and that of the older chains, joined in this order: where the RFC's step and
    its figure disagree, this is what others write.
    """
    older = hashlib.new(hash_name, encode_sequence(chains)).digest()
    return hashlib.new(hash_name, hashlib.new(hash_name, data).digest() + older).digest()


def read_record(encoded: bytes) -> EvidenceRecord:
    """Read a DER EvidenceRecord. Nothing is verified but that these are the bytes QCOS would write.

    Raises:
        Integrity: ``timestamp.record``.
    """
    return _read(encoded, _decode_record)


def read_stamp(encoded: bytes) -> ArchiveStamp:
    """Read a DER ArchiveTimeStamp that stands alone. Nothing is verified but that these are the bytes QCOS would write.

    Raises:
        Integrity: ``timestamp.record``.
    """
    return _read(encoded, lambda given: _stamp(_Stamp.load(given, strict=True)))


Read = TypeVar("Read", EvidenceRecord, ArchiveStamp)


def _decode_record(encoded: bytes) -> EvidenceRecord:
    parsed = _Record.load(encoded, strict=True)
    if parsed["version"].native != 1:
        raise ValueError("not of version 1")
    names = [one["algorithm"].native for one in parsed["digest_algorithms"]]
    chains = tuple(tuple(_stamp(one) for one in chain) for chain in parsed["sequence"])
    return EvidenceRecord(chains, _hashes(chains, names))


def _read(encoded: bytes, decode: Callable[[bytes], Read]) -> Read:
    if len(encoded) > MAX_RECORD_BYTES:
        raise _unreadable(f"longer than {MAX_RECORD_BYTES} bytes")
    try:
        der.check(encoded)
        found = decode(encoded)
        again = found.encode()
    except MALFORMED as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from None
    if again != encoded:
        raise _unreadable("not the one encoding of its content")
    return found


def _stamp(parsed: Any) -> ArchiveStamp:  # Any: asn1crypto
    token = parsed["time_stamp"].dump()
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError("a token that is too long")
    reduced = parsed["reduced_hashtree"]
    lists = reduced if reduced.native is not None else ()
    return ArchiveStamp(token, tuple(tuple(one.native for one in hashes) for hashes in lists))


def _hashes(chains: tuple[Chain, ...], names: list[str]) -> tuple[str, ...]:
    """Return the hash of each chain: the one its first token's imprint has."""
    if not chains or not all(chains) or sum(map(len, chains)) > MAX_STAMPS:
        raise ValueError("chains that are empty or too many time stamps")
    hashes = tuple(imprint_hash(chain[0].token) for chain in chains)
    if list(dict.fromkeys(hashes)) != names or not set(names) <= set(DIGEST_SIZES):
        raise ValueError("digest algorithms other than those of the time stamps")
    return hashes


def imprint_hash(token: bytes) -> str:
    """Return the name of a token's imprint hash; nothing is verified. Raises what `MALFORMED` lists."""
    info = cms.ContentInfo.load(token)["content"]["encap_content_info"]["content"].parsed
    name: str = info["message_imprint"]["hash_algorithm"]["algorithm"].native
    return name


def spelled(hash_name: str) -> str:
    """Return a hash's name as people and OpenSSL write it."""
    return hash_name.replace("_", "-")


def _unreadable(why: str) -> Integrity:
    return Integrity(
        "timestamp.record",
        "not an evidence record as QCOS writes it (RFC 4998)",
        subject="evidence record",
        got=why[:200],
    )
