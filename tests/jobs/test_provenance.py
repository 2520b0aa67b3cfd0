"""What a driver tells for level ``full`` is kept; what it does not tell, or tells wrongly, is named (R12.2, R12.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from faults.vendor import PaidDriver
from faults.world import World, make_execution, sealer_of
from qcos.base.canonical import digest
from qcos.base.errors import Unavailable
from qcos.base.limits import MAX_MATERIAL_BYTES, MAX_MATERIALS_BYTES, MAX_TOOLCHAIN_BYTES
from qcos.db.queue import Task
from qcos.drivers.contract import Document, Handle, Outcome, Provenance, Work
from qcos.evidence.bundle import statement_of
from qcos.evidence.levels import TOOLCHAIN
from qcos.jobs.conceal import BUNDLE, material_name
from qcos.jobs.model import Job
from qcos.jobs.provenance import gather
from qcos.jobs.seal import Sealer
from qcos.jobs.submit import submission_key

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


class Telling(PaidDriver):
    """Tells what the contract promises when it is asked for, and remembers being asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked: list[bool] = []

    def submit(self, backend: str, work: Work, key: str) -> Handle:
        self.asked.append(work.provenance)
        return super().submit(backend, work, key)

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        return replace(super().result(handle, wait_s), provenance=GOOD if self.asked[-1] else None)


def _evidence(world: World, task: Task) -> dict[str, Any]:
    """What the signed statement of a finished job says of its level."""
    world.assert_completed_once(task)
    job = world.job(task)
    [bundle] = world.rows("select document from qcos.evidence_bundle where job = %(job)s", job=task.job)
    told: dict[str, Any] = statement_of(world.opened(job, BUNDLE, bundle.document))["predicate"]["evidence"]
    return told


def _materials(world: World, task: Task) -> dict[str, bytes]:
    rows = world.rows("select name, payload from qcos.evidence_material where job = %(job)s", job=task.job)
    job = world.job(task)
    return {row.name: world.opened(job, material_name(row.name), row.payload) for row in rows}


@pytest.mark.parametrize("level", ["basic", "standard", "full"])
def test_only_full_asks_the_driver_for_more(world: World, tmp_path: Path, level: str) -> None:
    """R12.5: and what was told is kept beside the result, in the scope that keeps it."""
    driver = Telling(tmp_path / "vendor")
    execution = make_execution(world.engine, [driver], world.keys)
    task = world.submit(level=level)
    asyncio.run(execution.handle(task))
    execution.close()
    assert driver.asked == [level == "full"]
    assert _evidence(world, task)["level"] == level
    assert set(_materials(world, task)) == ({"transpiled/0", "vendor-response"} if level == "full" else set())


def test_a_driver_that_knows_nothing_of_it_loses_no_paid_job(
    world: World, driver: PaidDriver, work: Callable[..., None]
) -> None:
    """R12.2: sealed at the level that was asked for, with what is absent named."""
    task = world.submit(level="full")
    work(task)
    told = _evidence(world, task)
    assert set(told["absent"]) == {"transpiled", "calibration", "vendor-response"}
    assert set(told["absent"].values()) == {"the driver does not report it"}
    assert told["toolchain"]["driver"] == "paid"
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}


class Lost(Sealer):
    """Seals nothing: the worker is lost between the result and its evidence."""

    def seal_all(self, items: Sequence[Any]) -> list[Any]:
        raise Unavailable("database.unavailable", "gone")


def test_the_worker_that_comes_after_seals_what_the_lost_one_kept(world: World, tmp_path: Path) -> None:
    """R12.2, R12.5: the vendor is asked for its answer once; the documents are those of that run."""
    driver = Telling(tmp_path / "vendor")
    sealer = sealer_of(world.keys)
    lost = make_execution(
        world.engine, [driver], world.keys, "lost", sealer=Lost(sealer.signers, sealer.authority)
    )
    task = world.submit(level="full")
    with pytest.raises(Unavailable):
        asyncio.run(lost.handle(task))
    lost.close()
    assert world.job(task).state == "collected"
    kept = _materials(world, task)
    after = make_execution(world.engine, [driver], world.keys, "after")
    asyncio.run(after.handle(task))
    after.close()
    told = _evidence(world, task)
    assert set(told["materials"]) == set(kept) == {"transpiled/0", "vendor-response"}
    assert _materials(world, task) == kept
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}
