"""What a driver tells for level ``full`` is kept; what it does not tell, or tells wrongly, is named (R12.2, R12.5)."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qcos.base.canonical import digest
from qcos.base.limits import MAX_MATERIAL_BYTES, MAX_MATERIALS_BYTES, MAX_TOOLCHAIN_BYTES
from qcos.drivers.contract import Document, Provenance
from qcos.evidence.levels import TOOLCHAIN
from qcos.jobs.model import Job
from qcos.jobs.provenance import gather

JOB = cast(Job, SimpleNamespace(id="job-1", facts=[{}], driver="aer"))
TEXT = "text/x-openqasm"
GOOD = Provenance(
    {"python": {}, "packages": {"a": "1"}, "seeds": {}, "settings": {}},
    (Document.of(b"OPENQASM 3.0;", TEXT),),
    None,
    Document.of(b"[]", "application/json"),
    {"calibration": "a simulator"},
)


def test_documents_are_kept_and_the_absent_is_named() -> None:
    told = gather(JOB, GOOD)
    assert {one.name: one.payload for one in told.materials} == {
        "transpiled/0": b"OPENQASM 3.0;",
        "vendor-response": b"[]",
    }
    assert told.facts["materials"]["transpiled/0"] == {
        "digest": digest(b"OPENQASM 3.0;"),
        "bytes": 13,
        "media_type": TEXT,
        "kept": True,
    }
    assert told.facts["absent"] == {"calibration": "a simulator"}
    assert told.facts["toolchain"]["driver"] == "aer"


WRONG: list[Any] = [
    None,
    "provenance",
    replace(GOOD, toolchain=[]),
    replace(GOOD, toolchain={"x": float("nan")}),
    replace(GOOD, toolchain={"x": "y" * MAX_TOOLCHAIN_BYTES}),
    replace(GOOD, absent={"calibration": object()}),
    replace(GOOD, executed=(None,)),
    replace(GOOD, executed=("OPENQASM 3.0;",)),
    replace(GOOD, response=Document(digest(b"x"), 2, TEXT, b"[]")),
    replace(GOOD, response=Document(digest(b"[]"), 3, TEXT, b"[]")),
    replace(GOOD, response=Document("sha256:0", 3, TEXT, None)),
    replace(GOOD, response=Document(digest(b"[]"), 2, cast(str, 7), b"[]")),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_driver_that_tells_nonsense_loses_no_result(wrong: Any) -> None:
    """R12.2: the job is sealed all the same; nothing that was told is believed, and the evidence says so."""
    told = gather(JOB, wrong)
    assert told.materials == ()
    assert told.facts["materials"] == {}
    assert set(told.facts["absent"]) == {"transpiled", "calibration", "vendor-response"}
    assert set(TOOLCHAIN) <= set(told.facts["toolchain"])


def test_programs_that_are_not_one_for_each_circuit_are_not_named() -> None:
    told = gather(JOB, replace(GOOD, executed=GOOD.executed * 2))
    assert [one.name for one in told.materials] == ["vendor-response"]
    assert "transpiled" in told.facts["absent"]


def test_what_is_too_large_is_named_by_its_digest_alone() -> None:
    """R12.5: a paid result is not refused for its size."""
    large = Document.of(b" " * (MAX_MATERIAL_BYTES + 1), "application/json")
    assert large.data is None
    told = gather(JOB, replace(GOOD, response=large))
    assert told.facts["materials"]["vendor-response"]["kept"] is False
    assert told.facts["materials"]["vendor-response"]["digest"] == digest(b" " * (MAX_MATERIAL_BYTES + 1))
    assert [one.name for one in told.materials] == ["transpiled/0"]


def test_a_job_keeps_so_much_and_no_more() -> None:
    one = Document.of(b" " * MAX_MATERIAL_BYTES, TEXT)
    many = MAX_MATERIALS_BYTES // MAX_MATERIAL_BYTES + 1
    job = cast(Job, SimpleNamespace(id="job-1", facts=[{}] * many, driver="aer"))
    told = gather(job, replace(GOOD, executed=(one,) * many))
    assert sum(len(kept.payload) for kept in told.materials) <= MAX_MATERIALS_BYTES
    kept = [told.facts["materials"][f"transpiled/{n}"]["kept"] for n in range(many)]
    assert kept == [True] * (many - 1) + [False]
