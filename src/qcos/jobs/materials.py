"""The documents a job's evidence commits to, from wherever they are kept; each is what the evidence names, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Integrity, NotFound
from qcos.evidence import materials
from qcos.evidence.bundle import statement_of
from qcos.evidence.statement import subject_digests
from qcos.evidence.store import StoredBundle
from qcos.jobs import store
from qcos.jobs.spec import decode_base64
from qcos.policy import bundle as bundles
from qcos.policy import store as policies

_JSON = "application/json"
_TEXT = "text/x-openqasm"


def listed(stored: StoredBundle) -> list[dict[str, Any]]:
    """Return the documents of a bundle: ``name``, ``digest``, ``media_type``, ``kept``, and ``bytes`` where the bundle says so."""
    statement = statement_of(stored.document)
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


def fetch(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> tuple[bytes, str]:
    """Return a document and its media type.

    Raises:
        NotFound: ``evidence.no_material`` when the evidence names none such; ``evidence.not_kept``.
        Integrity: ``evidence.material_altered`` when what is kept is not what the evidence names.
    """
    known = {item["name"]: item for item in listed(stored)}
    if name not in known:
        names = ", ".join(known)
        raise NotFound(
            "evidence.no_material",
            "the evidence names no such document",
            subject=name[:200],
            expected=names[:500],
        )
    elsewhere = _ELSEWHERE.get(name.partition("/")[0])
    data = elsewhere(connection, tenant, stored, name) if elsewhere is not None else None
    if data is None:
        kept = materials.get(connection, tenant, stored.job, name)
        data = None if kept is None else kept.payload
    item = known[name]
    if data is None:
        raise NotFound(
            "evidence.not_kept",
            "the document's bytes are not kept",
            subject=name,
            hint="its digest stands in the evidence: compare with a copy of your own",
        )
    if digest(data) != item["digest"]:
        raise Integrity(
            "evidence.material_altered",
            "what is kept is not what the evidence names",
            subject=f"{name} of {stored.job}",
            expected=item["digest"],
            got=digest(data),
        )
    return data, item["media_type"]


def _input(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> bytes | None:
    return store.get(connection, tenant, stored.job).spec


def _output(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> bytes | None:
    return store.get_results(connection, tenant, [stored.job]).get(stored.job)


def _circuit(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> bytes | None:
    spec = json.loads(store.get(connection, tenant, stored.job).spec)
    circuits = spec["circuits"] if "circuits" in spec else [spec["circuit"]]
    return decode_base64(circuits[int(name.partition("/")[2])]["source"])


def _decision_input(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> bytes | None:
    decision = store.get(connection, tenant, stored.job).decision
    return canonical(policies.get_decision(connection, tenant, decision).input)


def _policies(connection: sa.Connection, tenant: UUID, stored: StoredBundle, name: str) -> bytes | None:
    version = statement_of(stored.document)["predicate"]["governance"]["policyVersion"]
    return bundles.manifest(policies.get_bundle(connection, tenant, version).files)


_ELSEWHERE: dict[str, Callable[[sa.Connection, UUID, StoredBundle, str], bytes | None]] = {
    "input": _input,
    "output": _output,
    "circuit": _circuit,
    "decision-input": _decision_input,
    "policy-bundle": _policies,
}
"""What is kept for other reasons, by the first part of its name."""
