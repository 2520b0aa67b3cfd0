"""The documents a job's evidence commits to, from wherever they are kept; each is what the evidence names, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Integrity, NotFound
from qcos.evidence import materials
from qcos.evidence.bundle import statement_of
from qcos.evidence.statement import subject_digests
from qcos.jobs import store
from qcos.jobs.conceal import RESULT, SPEC, material_name
from qcos.jobs.spec import decode_base64
from qcos.policy import bundle as bundles
from qcos.policy import store as policies

_JSON = "application/json"
_TEXT = "text/x-openqasm"


@dataclass(frozen=True, slots=True)
class Found:
    """A document where it is kept.

    Attributes:
        name: Its name as a subject of the statement.
        job: Whose.
        digest: What the evidence names.
        media_type: What it is.
        data: The bytes as they are kept.
        sealed_as: The payload they are sealed as; None: they are kept as they are.
        part: What of the opened payload is the document.
    """

    name: str
    job: str
    digest: str
    media_type: str
    data: bytes
    sealed_as: str | None
    part: Callable[[bytes], bytes | None]

    def checked(self, payload: bytes) -> bytes:
        """Return the document of the opened payload.

        Raises:
            Integrity: ``evidence.material_altered`` when what is kept is not what the evidence names.
        """
        data = self.part(payload) or b""
        if digest(data) != self.digest:
            raise Integrity(
                "evidence.material_altered",
                "what is kept is not what the evidence names",
                subject=f"{self.name} of {self.job}",
                expected=self.digest,
                got=digest(data),
            )
        return data


def listed(document: bytes) -> list[dict[str, Any]]:
    """Return the documents of a bundle: ``name``, ``digest``, ``media_type``, ``kept``, and ``bytes`` where the bundle says so."""
    statement = statement_of(document)
    told = statement["predicate"].get("evidence", {}).get("materials", {})
    return [_listed(name, named, told.get(name, {})) for name, named in subject_digests(statement).items()]


def _listed(name: str, named: str, told: dict[str, Any]) -> dict[str, Any]:
    known = {"bytes": told["bytes"]} if "bytes" in told else {}
    default = _TEXT if name.startswith("circuit/") else _JSON
    kept = told.get("kept", name.partition("/")[0] in _ELSEWHERE)
    return {
        "name": name,
        "digest": named,
        "media_type": told.get("mediaType", default),
        "kept": kept,
        **known,
    }


def find(connection: sa.Connection, tenant: UUID, job: str, document: bytes, name: str) -> Found:
    """Find a document of a bundle.

    Raises:
        NotFound: ``evidence.no_material`` when the evidence names none such; ``evidence.not_kept``.
    """
    known = {item["name"]: item for item in listed(document)}
    if name not in known:
        names = ", ".join(known)
        raise NotFound(
            "evidence.no_material",
            "the evidence names no such document",
            subject=name[:200],
            expected=names[:500],
        )
    elsewhere = _ELSEWHERE.get(name.partition("/")[0])
    data, sealed_as = elsewhere(connection, tenant, job, document) if elsewhere else (None, None)
    if data is None:
        kept = materials.get(connection, tenant, job, name)
        data, sealed_as = (kept.payload, material_name(name)) if kept else (None, None)
    item = known[name]
    if data is None:
        raise NotFound(
            "evidence.not_kept",
            "the document's bytes are not kept",
            subject=name,
            hint="its digest stands in the evidence: compare with a copy of your own",
        )
    part = _circuit(name) if name.startswith("circuit/") else _whole
    return Found(name, job, item["digest"], item["media_type"], data, sealed_as, part)


_Kept = tuple[bytes | None, str | None]


def _input(connection: sa.Connection, tenant: UUID, job: str, document: bytes) -> _Kept:
    return store.get(connection, tenant, job).spec, SPEC


def _output(connection: sa.Connection, tenant: UUID, job: str, document: bytes) -> _Kept:
    return store.get_results(connection, tenant, [job]).get(job), RESULT


def _decision_input(connection: sa.Connection, tenant: UUID, job: str, document: bytes) -> _Kept:
    decision = store.get(connection, tenant, job).decision
    return canonical(policies.get_decision(connection, tenant, decision).input), None


def _policies(connection: sa.Connection, tenant: UUID, job: str, document: bytes) -> _Kept:
    version = statement_of(document)["predicate"]["governance"]["policyVersion"]
    return bundles.manifest(policies.get_bundle(connection, tenant, version).files), None


def _whole(payload: bytes) -> bytes:
    return payload


def _circuit(name: str) -> Callable[[bytes], bytes | None]:
    def source(spec_document: bytes) -> bytes | None:
        spec = json.loads(spec_document)
        circuits = spec["circuits"] if "circuits" in spec else [spec["circuit"]]
        return decode_base64(circuits[int(name.partition("/")[2])]["source"])

    return source


_ELSEWHERE: dict[str, Callable[[sa.Connection, UUID, str, bytes], _Kept]] = {
    "input": _input,
    "output": _output,
    "circuit": _input,
    "decision-input": _decision_input,
    "policy-bundle": _policies,
}
"""What is kept for other reasons, by the first part of its name."""
