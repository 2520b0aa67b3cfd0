"""What a driver tells of a run for the evidence level ``full``, as it is kept: digests in the job's row, bytes as materials.

A result that was paid for is never lost for want of it: what a driver does not tell, or tells wrongly, is named as absent, with the reason,
and the evidence says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qcos.base.canonical import canonical, digest
from qcos.base.limits import MAX_MATERIALS_BYTES, MAX_TOOLCHAIN_BYTES
from qcos.drivers.contract import Document, Provenance
from qcos.evidence.levels import TOOLCHAIN
from qcos.evidence.materials import StoredMaterial
from qcos.jobs.model import Job, keepable

_SILENT = "the driver does not report it"
_MEMBERS = {"executed": "transpiled", "calibration": "calibration", "response": "vendor-response"}
"""Names in the contract, and in evidence."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is kept.

    Attributes:
        facts: ``toolchain``, ``materials`` (name to digest, size, type, whether the bytes are kept), ``absent``.
        materials: The bytes.
    """

    facts: dict[str, Any]  # Any: JSON
    materials: tuple[StoredMaterial, ...]


def gather(job: Job, given: object) -> Told:
    """Return what is kept of a driver's `Provenance`, whatever it is."""
    provenance = given if isinstance(given, Provenance) and not _wrong(given) else Provenance({})
    documents = dict(_documents(provenance, len(job.facts)))
    kept, room, materials = {}, MAX_MATERIALS_BYTES, []
    for name, document in documents.items():
        fits = document.data is not None and len(document.data) <= room
        if document.data is not None and fits:
            room -= len(document.data)
            materials.append(
                StoredMaterial(job.id, name, document.digest, document.media_type, document.data)
            )
        kept[name] = {
            "digest": document.digest,
            "bytes": document.size,
            "media_type": document.media_type,
            "kept": fits,
        }
    present = {name.partition("/")[0] for name in documents}
    absent = {
        ours: str(provenance.absent.get(theirs, ""))[:500].strip() or _SILENT
        for theirs, ours in _MEMBERS.items()
        if ours not in present
    }
    toolchain = dict.fromkeys(TOOLCHAIN) | {"driver": job.driver} | dict(provenance.toolchain)
    return Told({"toolchain": toolchain, "materials": kept, "absent": absent}, tuple(materials))


def _documents(provenance: Provenance, circuits: int) -> Iterator[tuple[str, Document]]:
    if len(provenance.executed) == circuits:
        for number, document in enumerate(provenance.executed):
            yield f"transpiled/{number}", document
    if provenance.calibration is not None:
        yield "calibration", provenance.calibration
    if provenance.response is not None:
        yield "vendor-response", provenance.response


def _wrong(given: Any) -> bool:  # Any: members may be anything, a driver is somebody else's
    """Tell whether a provenance is not what the contract promises, so that nothing of it can be believed."""
    documents = [*given.executed, given.calibration, given.response]
    if not all(one is None or _is_document(one) for one in documents) or None in given.executed:
        return True
    if not isinstance(given.toolchain, dict) or not isinstance(given.absent, dict):
        return True
    told = [given.toolchain, given.absent]
    return not keepable(told) or len(canonical(told)) > MAX_TOOLCHAIN_BYTES


def _is_document(one: Any) -> bool:  # Any: see `_wrong`
    match one:
        case Document(digest=str(named), size=int(size), media_type=str(), data=None):
            return len(named) == len(digest(b"")) and named.startswith("sha256:") and size >= 0
        case Document(digest=str(named), size=int(size), media_type=str(), data=bytes(data)):
            return (named, size) == (digest(data), len(data))
    return False
