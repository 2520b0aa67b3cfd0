"""A bundle and its documents as an RO-Crate for scientists: Process Run Crate 0.5 on RO-Crate 1.1, in a ZIP file.

The run is a ``CreateAction``: who (agent), on what (instrument: the backend and the software that ran it), from
what (object: Job Spec, circuits, calibration), what came of it (result). The crate's words are taken from the
signed statement; what proves them is the bundle in the crate, not the crate, which nobody has signed. The same
input gives the same bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qcos.base.canonical import digest, loads_strict
from qcos.base.clock import parse_rfc3339
from qcos.base.errors import Integrity, Invalid
from qcos.evidence.envelope import from_base64
from qcos.evidence.folder import NAME
from qcos.evidence.statement import subject_digests

PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
CRATE: Final = "https://w3id.org/ro/crate/1.1"
_CONTEXT: Final = [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
_USED: Final = ("input", "circuit", "calibration", "policy-bundle", "decision-input")
"""What the run went in with, by the first part of the name; the rest came of it."""
_WORDS: Final = {
    "input": "Job Spec, canonical JSON",
    "output": "Result: counts of each circuit",
    "circuit": "Program as submitted",
    "transpiled": "Program as executed",
    "calibration": "Calibration of the backend",
    "vendor-response": "The vendor's answer as it came",
    "decision-input": "All that policy saw",
    "policy-bundle": "Digest of each policy file",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A document that the bundle commits to: a file of the crate when its bytes are given, else its digest alone."""

    name: str
    digest: str
    media_type: str
    data: bytes | None

    @property
    def id(self) -> str:
        return f"documents/{self.name}" if self.data is not None else f"urn:sha256:{self._hex}"

    @property
    def _hex(self) -> str:
        return self.digest.partition(":")[2]

    def entity(self) -> dict[str, Any]:
        kind = self.name.partition("/")[0]
        told = {"name": self.name, "description": _WORDS.get(kind, kind), "sha256": self._hex}
        if self.data is None:
            return {"@id": self.id, "@type": "CreativeWork", **told}
        return _file(self.id, self.data, self.media_type) | told


def to_ro_crate(
    document: bytes,
    bundle: Mapping[str, Any],  # Any: JSON
    materials: Mapping[str, bytes] | None = None,
    trust: bytes | None = None,
    *,
    licence: str = "",
) -> bytes:
    """Return the crate.

    Args:
        document: The bundle's bytes, as they were fetched.
        bundle: The same, read.
        materials: Documents that the bundle names; each is compared with its digest.
        trust: The trust document, to go along.
        licence: URI of the data's licence; without one the crate says that none was given.

    Raises:
        Integrity: ``evidence.material`` when a document is not the one the bundle names.
        Invalid: ``evidence.name``; ``evidence.licence``.
    """
    if licence and not licence.startswith(("https://", "http://")):
        raise Invalid("evidence.licence", "not a URI of a licence", expected="https://...", got=licence[:100])
    payload = from_base64(bundle["proof"]["envelope"]["payload"], "/proof/envelope/payload")
    try:
        statement = loads_strict(payload, subject="statement")
        parts = list(_parts(statement, materials or {}))
        files = {"bundle.json": document} | ({"trust.json": trust} if trust is not None else {})
        graph = [*_root(statement, parts, files, licence), *_action(statement, parts)]
        sealed = parse_rfc3339(statement["predicate"]["when"]["sealedAt"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Integrity(
            "evidence.statement", "not a statement of this kind", got=f"{type(error).__name__}: {error}"[:200]
        ) from None
    metadata = json.dumps({"@context": _CONTEXT, "@graph": graph}, indent=2, ensure_ascii=False).encode()
    files |= {part.id: part.data for part in parts if part.data is not None}
    return _zip({"ro-crate-metadata.json": metadata + b"\n", **files}, sealed.timetuple()[:6])


def _parts(statement: Mapping[str, Any], materials: Mapping[str, bytes]) -> Iterator[_Part]:
    subjects = subject_digests(statement)
    for name in materials:
        if name not in subjects:
            raise Integrity(
                "evidence.material",
                "the bundle names no such document",
                expected=", ".join(subjects)[:300],
                got=name,
            )
    told = statement["predicate"].get("evidence", {}).get("materials", {})
    for name, named in subjects.items():
        if not NAME.fullmatch(name):
            raise Invalid("evidence.name", "not a name of a material", got=repr(name)[:100])
        data = materials.get(name)
        if data is not None and digest(data) != named:
            raise Integrity(
                "evidence.material",
                f"the {name} given is not the one of this job",
                expected=named,
                got=digest(data),
            )
        default = "text/x-openqasm" if name.startswith("circuit/") else "application/json"
        yield _Part(name, named, told.get(name, {}).get("mediaType", default), data)


def _root(
    statement: Mapping[str, Any], parts: Sequence[_Part], files: Mapping[str, bytes], licence: str
) -> Iterator[dict[str, Any]]:
    reader, who = statement["predicate"]["bundle"], statement["predicate"]["who"]
    held = [*files, *(part.id for part in parts if part.data is not None)]
    yield {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": CRATE},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Quantum job {reader['job_id']} and its evidence",
        "description": f"What job {reader['job_id']} of project {who['project']} ran, and evidence bundle "
        f"{reader['bundle_id']}, which proves it: qcos evidence verify bundle.json --trust trust.json",
        "datePublished": statement["predicate"]["when"]["sealedAt"],
        "identifier": reader["bundle_id"],
        "license": {"@id": licence or "#licence"},
        "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": name} for name in held],
        "mentions": {"@id": "#run"},
    }
    yield {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    asked = f"None was given: ask the owner of project {who['project']}"
    name = "Licence" if licence else "No licence"
    yield {"@id": licence or "#licence", "@type": "CreativeWork", "name": name} | (
        {} if licence else {"description": asked}
    )
    words = {
        "bundle.json": "Evidence bundle: signed, time-stamped, recorded in a ledger",
        "trust.json": "Trust document, as whoever made this crate had it: compare it with your own",
    }
    for name, data in files.items():
        yield _file(name, data, "application/json") | {
            "name": name,
            "description": words[name],
            "sha256": digest(data).partition(":")[2],
        }
    yield from (part.entity() for part in parts)


def _action(statement: Mapping[str, Any], parts: Sequence[_Part]) -> Iterator[dict[str, Any]]:
    predicate = statement["predicate"]
    reader, who, where, why = (predicate[name] for name in ("bundle", "who", "where", "why"))
    toolchain = predicate.get("evidence", {}).get("toolchain", {})
    packages = toolchain.get("packages") or {}
    software = {f"#software-{name}": (name, version) for name, version in sorted(packages.items())}
    agent, backend = f"#{who['actor']}", f"#backend-{where['backend']}"
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of job {reader['job_id']} on {where['backend']}",
        "description": f"{why['purpose']}: {why['justification']}"
        if why["justification"]
        else why["purpose"],
        "startTime": predicate["when"]["startedAt"],
        "endTime": predicate["when"]["endedAt"],
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "agent": {"@id": agent},
        "instrument": {"@id": backend},
        "object": [{"@id": part.id} for part in parts if _is_used(part)],
        "result": [{"@id": part.id} for part in parts if not _is_used(part)] + [{"@id": "bundle.json"}],
    }
    person = who.get("kind", "user") == "user"
    yield {
        "@id": agent,
        "@type": "Person" if person else "Organization",
        "name": who["actor"].partition(":")[2] or who["actor"],
    }
    yield {
        "@id": backend,
        "@type": "SoftwareApplication",
        "name": where["backend"],
        "description": f"{where['provider']}, region {where['region']}; compiled by {predicate['what']['compiler']}",
        "softwareVersion": str(toolchain.get("runtime") or predicate["what"]["compiler"]),
        "softwareRequirements": [{"@id": name} for name in software],
    }
    for name, (title, version) in software.items():
        yield {"@id": name, "@type": "SoftwareApplication", "name": title, "softwareVersion": str(version)}


def _is_used(part: _Part) -> bool:
    return part.name.partition("/")[0] in _USED


def _file(name: str, data: bytes, media_type: str) -> dict[str, Any]:
    return {"@id": name, "@type": "File", "encodingFormat": media_type, "contentSize": str(len(data))}


def _zip(files: Mapping[str, bytes], at: tuple[int, ...]) -> bytes:
    """Return a ZIP file whose bytes depend on the files and the time alone; its metadata comes first."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (max(at[0], 1980), *at[1:]))  # type: ignore[arg-type]
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return sink.getvalue()
