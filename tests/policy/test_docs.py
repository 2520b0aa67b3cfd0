"""The documentation says what is so, and its example works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qcos.policy import bundle, check
from qcos.policy.builtins import ALLOWED, REFUSED
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.samples import sample

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    text = (DOCS / "how-to" / "write-a-policy.md").read_text("utf-8")
    files = dict(re.findall(r"`(jobs/\w+\.rego)`:\n\n```rego\n(.*?)```", text, re.DOTALL))
    assert set(files) == {"jobs/research.rego", "jobs/research_test.rego"}
    return files


def test_example_is_accepted_and_its_tests_pass(example: dict[str, str]) -> None:
    """R11.5: the how-to's policy, added to the shipped ones, is a valid bundle with passing tests."""
    whole = bundle.extend(bundle.shipped(), example)
    assert "qcos.jobs.research" in check.validate(whole).policies["jobs"]
    report = check.run_tests(whole)
    assert report.ok
    covered = {file.path: file.not_covered for file in report.coverage}
    assert covered["jobs/research.rego"] == ()


@pytest.mark.parametrize(
    ("department", "purpose", "allowed"),
    [
        ("research", "production-benchmark", True),
        ("research", "Benchmark", True),
        ("research", "drug design", False),
        ("chemistry", "drug design", True),
    ],
)
def test_attributes_decide(
    policy_engine: PolicyEngine, example: dict[str, str], department: str, purpose: str, allowed: bool
) -> None:
    """R11.5: users from the research department can only submit benchmark jobs."""
    document = sample("jobs")
    document["principal"]["attributes"]["department"] = department
    document["job"]["purpose"] = purpose
    verdict = policy_engine.evaluate(bundle.extend(bundle.shipped(), example), "jobs", document)
    assert verdict.allow == allowed
    assert [reason.code for reason in verdict.reasons] == ([] if allowed else ["research.purpose"])


def test_reference_shows_the_inputs_as_they_are() -> None:
    text = (DOCS / "reference" / "policy.md").read_text("utf-8")
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert shown == [sample("jobs"), sample("acts")]


def test_reference_lists_functions_and_acts() -> None:
    text = (DOCS / "reference" / "policy.md").read_text("utf-8")
    section = text[text.index("### What a policy may call") : text.index("### When a bundle is uploaded")]
    names = set(re.findall(r"`([a-z0-9_.*]+)(?:\(\))?`", section))
    stars = tuple(name[:-1] for name in names if name.endswith("*"))
    assert {name for name in ALLOWED if name not in names and not name.startswith(stars)} == set()
    assert {name for name in names if not name.endswith("*")} <= ALLOWED | set(REFUSED) | {"time"}
    acts = set(re.findall(r'"([a-z]+\.[a-z]+)"', bundle.shipped().files["acts/permissions_test.rego"]))
    acts -= {"server.destroy", "access.denied", "access.installation"}
    assert {act for act in acts if f"`{act}`" not in text} == set()
