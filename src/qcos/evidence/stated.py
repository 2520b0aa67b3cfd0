"""Checks of the signed statement: that it is one, and says what the bundle shows and the caller asks for."""

from __future__ import annotations

from qcos.base.canonical import digest, loads_strict
from qcos.base.errors import Integrity, QcosError
from qcos.evidence.bundle import READER_MEMBERS
from qcos.evidence.levels import asked, at_least
from qcos.evidence.levels import check_level as check_members_of_level
from qcos.evidence.run import Run, differs, known
from qcos.evidence.shape import demand_equal
from qcos.evidence.statement import PREDICATE_TYPE, STATEMENT_TYPE, subject_digests


def read_statement(run: Run) -> str:
    """Demand an in-toto statement of this kind."""
    try:
        statement = loads_strict(run.payload, subject="statement")
    except QcosError as error:
        raise Integrity(
            "evidence.statement", f"the statement is not JSON: {error.message.removeprefix('not JSON: ')}"
        ) from None
    predicate = statement.get("predicate") if isinstance(statement, dict) else None
    if not isinstance(predicate, dict):
        raise Integrity("evidence.statement", "not an in-toto statement with a predicate")
    head = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}
    found = {name: statement.get(name) for name in head}
    demand_equal(head, found, "evidence.statement", "not a statement of this kind")
    run.facts["predicate"] = predicate
    run.statement = statement
    return f"in-toto, {PREDICATE_TYPE}"


def check_reader_fields(run: Run) -> str:
    """Demand that the bundle shows what was signed."""
    shown = {name: run.bundle[name] for name in READER_MEMBERS}
    demand_equal(
        run.statement["predicate"]["bundle"],
        shown,
        "evidence.field",
        "the bundle shows something else than what was signed",
    )
    return "every field of the bundle is what was signed"


def check_hashes(run: Run) -> str:
    """Demand that the two hashes of the bundle are those of the statement."""
    subjects = subject_digests(run.statement)
    for name, member in (("input", "input_hash"), ("output", "output_hash")):
        if subjects[name] != run.bundle[member]:
            raise differs(
                f"/{member}",
                "another digest than the statement's subject",
                subjects[name],
                run.bundle[member],
            )
    return f"input {subjects['input']}, output {subjects['output']}"


def check_level(run: Run) -> str:
    """Demand what the claimed level promises, and no lower level than the caller wants."""
    claimed = check_members_of_level(run.statement, subject_digests(run.statement))
    run.claimed = claimed
    run.facts |= {"level": claimed.level, "absent": dict(claimed.absent)}
    if not at_least(claimed.level, run.least):
        raise differs(
            "/proof/envelope/payload", "a lower evidence level than demanded", run.least, claimed.level
        )
    if claimed.legacy:
        return "made before evidence levels had a meaning: nothing beyond basic is promised"
    without = "; ".join(f"no {name}: {why}" for name, why in claimed.absent.items())
    return f"everything that level {claimed.level} demands{f' ({without[:300]})' if without else ''}"


def check_level_asked(run: Run, job_spec: bytes) -> str:
    """Demand no less evidence than the Job Spec asked for."""
    wanted, kept = asked(loads_strict(job_spec, subject="Job Spec")), known(run.claimed)
    if not kept.legacy and not at_least(kept.level, wanted):
        raise differs("/proof/envelope/payload", "less evidence than the job asked for", wanted, kept.level)
    return f"the job asked for {wanted}"


def check_material(run: Run, name: str, data: bytes) -> str:
    """Demand that a document is the one the statement names."""
    subjects = subject_digests(run.statement)
    if name not in subjects:
        raise differs("", "the statement names no such document", ", ".join(subjects), name)
    if digest(data) != subjects[name]:
        raise differs("", f"the {name} given is not the one of this job", subjects[name], digest(data))
    return f"the {name} given is the one of this job, {subjects[name]}"
