"""One contract for policy engines: ours (regorus in its process) and, as the judge, OPA's own Go engine.

The judge is a test dependency of its own (requirements/oracle.txt says how to install it); without it the
comparisons are skipped, loudly, and the contract is held against our engine alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.policy import bundle, check
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Entrypoint, PolicyBundle
from qcos.policy.samples import sample

Answer = dict[str, list[Any]]  # "package/set" to its sorted elements


class Engine(Protocol):
    def answer(self, asked: PolicyBundle, entrypoint: Entrypoint, document: dict[str, Any]) -> Answer: ...


class Ours:
    """What the verdict says, as sets by policy; a denial by the engine itself is `failed`."""

    def __init__(self) -> None:
        self.engine = PolicyEngine(deadline_s=1.0)

    def answer(self, asked: PolicyBundle, entrypoint: Entrypoint, document: dict[str, Any]) -> Answer:
        verdict = self.engine.evaluate(asked, entrypoint, document)
        out: Answer = {
            f"{package}/{name}": [] for package in verdict.policies for name in ("deny", "exclude")
        }
        for reason in verdict.reasons:
            if reason.policy == "qcos.engine":
                return {"failed": [reason.code, reason.message]}
            if reason.backend is None:
                out[f"{reason.policy}/deny"].append(reason.as_dict())
        for reason in verdict.excluded:
            out[f"{reason.policy}/exclude"].append(reason.as_dict())
        return normal(out)


class Opa:
    """OPA's own engine, asked package by package, at the time that the input tells."""

    def __init__(self) -> None:
        self.module = pytest.importorskip(
            "opa_bindings",
            reason="OPA is not installed: see requirements/oracle.txt; engines were NOT compared",
        )
        self.loaded: dict[str, Any] = {}

    def engine(self, asked: PolicyBundle) -> Any:
        if asked.version not in self.loaded:
            engine = self.module.OpaEngine()
            engine.print_handler = lambda *_: None
            for path, text in asked.files.items():
                engine.add_policy(path, text)
            self.loaded[asked.version] = engine
        return self.loaded[asked.version]

    def answer(self, asked: PolicyBundle, entrypoint: Entrypoint, document: dict[str, Any]) -> Answer:
        engine = self.engine(asked)
        out: Answer = {}
        for package in packages(asked, entrypoint):
            for name in ("deny", "exclude"):
                query = f"x := data.{package}.{name} with time.now_ns as time.parse_rfc3339_ns(input.time)"
                found = engine.eval_query(query, document)
                elements = found[0]["x"] if found else []
                out[f"{package}/{name}"] = [
                    {"policy": package, **{k: v for k, v in item.items() if v}} for item in elements
                ]
        return normal(out)


def packages(asked: PolicyBundle, entrypoint: str) -> list[str]:
    names = {
        line.split()[1]
        for text in asked.files.values()
        for line in text.splitlines()
        if line[:8] == "package "
    }
    return sorted(
        name for name in names if name.startswith(f"qcos.{entrypoint}.") and not name.endswith("_test")
    )


def normal(answer: Answer) -> Answer:
    return {
        name: sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
        for name, items in answer.items()
    }


@pytest.fixture(scope="module")
def ours() -> Iterator[Ours]:
    made = Ours()
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def opa() -> Opa:
    return Opa()


@pytest.fixture(scope="module", params=["regorus", "opa"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue("ours" if request.param == "regorus" else "opa")
    return found


def policy(body: str) -> PolicyBundle:
    return bundle.of({"jobs/x.rego": f"package qcos.jobs.x\n{body}\n"})


CASES = {
    "true": ("true", True),
    "null is not false": ("input.n", True),
    "undefined": ("input.absent", False),
    "not undefined": ("not input.absent", True),
    "integer division": ("(7 - (7 % 2)) / 2 == 3", True),
    "large integers": ("input.large == 9007199254740991", True),
    "negative remainder": ("-7 % 5 == -2", True),
    "sprintf": ('sprintf("%d %s %v", [5, "a", true]) == "5 a true"', True),
    "sprintf of a set": ('sprintf("%v", [{2, 1}]) == "{1, 2}"', True),
    "concat sorts sets": ('concat(",", {"b", "a"}) == "a,b"', True),
    "every": ("every n in [1, 2] { n < 3 }", True),
    "every of nothing": ("every n in [] { n < 3 }", True),
    "some in": ('some k, v in {"a": 1}; k == "a"; v == 1', True),
    "in": ("2 in {1, 2}", True),
    "types order": ('"a" > 1', True),
    "time of the input": ("time.clock(time.now_ns()) == [10, 30, 0]", True),
    "weekday": ('time.weekday(time.now_ns()) == "Monday"', True),
    "regex": ('regex.match("^prod.*k$", input.job.purpose)', False),
    "regex matches": ('regex.match("^production-", input.job.purpose)', True),
    "glob": ('glob.match("*.company.com", ["."], "mail.company.com")', True),
    "cidr": ('net.cidr_contains("10.0.0.0/8", "10.1.2.3")', True),
    "object.get path": (
        'object.get(input, ["principal", "attributes", "department"], "") == "research"',
        True,
    ),
    "object.union": ('object.union({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}', True),
    "walk": ('[["a"], 1] in {x | walk({"a": 1}, x)}', True),
    "unicode upper": ('upper("äé") == "ÄÉ"', True),
    "unicode length": ('count("äé") == 2', True),
    "semver": ('semver.compare("1.0.0-alpha", "1.0.0") == -1', True),
    "units": ('units.parse_bytes("1Ki") == 1024', True),
    "json": ('json.unmarshal("[1, 2]") == [1, 2]', True),
    "base64": ('base64.decode("YQ==") == "a"', True),
    "sort": ('sort(["b", "a"]) == ["a", "b"]', True),
    "max and sum": ("max([1, 3, 2]) + sum({1, 2}) == 6", True),
    "substring": ('substring("production", 0, 4) == "prod"', True),
    "trim": ('trim_space("  a ") == "a"', True),
    "with": ('input.absent == 1 with input as {"absent": 1}', True),
    "duration": ('time.parse_duration_ns("1h") == 3600000000000', True),
    "numbers.range": ("numbers.range(1, 3) == [1, 2, 3]", True),
    "comprehension": ('{c.backend | some c in input.candidates} == {"aer-ideal", "qpu-1"}', True),
}


@pytest.mark.parametrize("name", CASES)
def test_language(engine: Engine, name: str) -> None:
    """Each engine gives the language's answer to a small question."""
    condition, expected = CASES[name]
    document = {**sample("jobs"), "n": None, "large": 2**53 - 1}
    if name == "regex":
        document["job"]["purpose"] = "production"
    asked = policy(f'deny contains {{"code": "yes", "message": "m"}} if {{ {condition} }}')
    answer = engine.answer(asked, "jobs", document)
    assert bool(answer["qcos.jobs.x/deny"]) == expected, answer


def test_cases_pass_our_checks() -> None:
    """What the contract uses, an uploaded bundle may use."""
    for condition, _ in CASES.values():
        facts = check.validate(policy(f'deny contains "x" if {{ {condition} }}'), complete=False)
        assert facts.policies["jobs"] == ("qcos.jobs.x",), condition


def test_shipped_tests_pass_in_opa(opa: Opa) -> None:
    """R3.1: the Rego tests of the shipped policies are green under the language's own engine too."""
    report = check.run_tests(bundle.shipped())
    engine = opa.engine(bundle.shipped())
    for result in report.results:
        assert engine.eval_query(f"x := data.{result.name}", {}) == [{"x": True}], result.name


money = st.integers(-(2**53 - 1), 2**53 - 1)
amount = st.integers(0, 2**53 - 1) | st.integers(0, 3) | st.just(12_500_000)
words = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)  # lower("İ") is i̇ or i
label = (
    st.sampled_from(["public", "Internal", "internal-restricted", "secret", "TOP SECRET", "", " open"])
    | words
)
role = st.lists(
    st.sampled_from(["quantum-admin", "quantum-engineer", "quantum-user", "auditor", "other"]), max_size=3
)
candidate = st.fixed_dictionaries(
    {
        "backend": st.sampled_from(["a", "b", "c", "d"]),
        "provider": st.just("p"),
        "kind": st.sampled_from(["simulator", "qpu"]),
        "zone": st.sampled_from(["sovereign", "cloud", "local"]),
        "on_premise": st.booleans(),
        "price": amount,
        "currency": st.sampled_from(["USD", "EUR"]),
    }
)
funds = st.none() | st.fixed_dictionaries(
    {
        "currency": st.sampled_from(["USD", "EUR"]),
        "month": st.just("2026-11"),
        "limit": amount,
        "available": money,
    }
)
quota = st.none() | st.fixed_dictionaries(
    {"team": st.just("chemistry"), "day": st.just("2026-11-23"), "limit": amount, "available": money}
)
request = st.fixed_dictionaries(
    {
        "job": st.fixed_dictionaries(
            {
                "id": st.just("job-1"),
                "project": st.sampled_from(["drug-discovery", "q"]),
                "classification": label,
                "purpose": st.sampled_from(["production-benchmark", "research", " PRODUCTION", "pro"])
                | label,
                "total_shots": amount,
                "cost_center": st.sampled_from(["CC-1", "CC-2"]) | words,
            }
        ),
        "project": st.just({"id": "drug-discovery", "cost_center": "CC-1"}),
        "principal": st.fixed_dictionaries({"id": st.just("user:a@b"), "roles": role}),
        "budget": funds,
        "quota": quota,
        "candidates": st.lists(candidate, max_size=4),
        "time": st.just("2026-11-23T10:30:00Z"),
    }
)
COMPARE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@COMPARE
@given(document=request)
def test_shipped_job_policies_agree(ours: Ours, opa: Opa, document: dict[str, Any]) -> None:
    """Differential: on whole requests both engines give the same sets, to the last character."""
    assert ours.answer(bundle.shipped(), "jobs", document) == opa.answer(bundle.shipped(), "jobs", document)


@COMPARE
@given(
    act=st.sampled_from(
        [
            "job.submit",
            "job.cancel",
            "token.create",
            "budget.set",
            "role.grant",
            "ledger.read",
            "whoami.read",
            "no",
        ]
    ),
    project=st.sampled_from(["", "q"]),
    own=st.booleans() | st.none() | st.just("true"),
    roles=role,
    tenant_roles=role,
    given=st.sampled_from([{}, {"role": "quantum-admin"}, {"role": "auditor"}, {"role": None}]),
)
def test_shipped_act_policies_agree(
    ours: Ours,
    opa: Opa,
    act: str,
    project: str,
    own: object,
    roles: list[str],
    tenant_roles: list[str],
    given: dict[str, Any],
) -> None:
    """Differential: roles and acts."""
    document = {**sample("acts"), "act": act, "project": project, "own": own, "details": given}
    document["principal"] |= {"roles": roles, "tenant_roles": tenant_roles}
    assert ours.answer(bundle.shipped(), "acts", document) == opa.answer(bundle.shipped(), "acts", document)


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def spoil(document: dict[str, Any], path: list[str], value: Any) -> None:
    place: Any = document
    for name in path[:-1]:
        place = place[0] if isinstance(place, list) and place else place
        if not isinstance(place, dict) or not isinstance(place.get(name), dict | list):
            return
        place = place[name]
    place = place[0] if isinstance(place, list) and place else place
    if isinstance(place, dict):
        place[path[-1]] = value


@COMPARE
@given(
    path=st.sampled_from(
        [
            ["job"],
            ["job", "classification"],
            ["job", "purpose"],
            ["job", "project"],
            ["job", "total_shots"],
            ["job", "cost_center"],
            ["project"],
            ["project", "cost_center"],
            ["principal", "roles"],
            ["principal", "id"],
            ["budget"],
            ["budget", "available"],
            ["budget", "limit"],
            ["quota"],
            ["quota", "available"],
            ["candidates"],
            ["candidates", "price"],
            ["candidates", "zone"],
        ]
    ),
    value=odd,
)
def test_spoilt_requests_are_never_judged_milder(ours: Ours, opa: Opa, path: list[str], value: Any) -> None:
    """Differential on odd types: both engines agree, or ours refuses; never does it allow what OPA denies."""
    document = sample("jobs")
    spoil(document, path, value)
    answer = ours.answer(bundle.shipped(), "jobs", document)
    if "failed" in answer:
        return
    theirs = opa.answer(bundle.shipped(), "jobs", document)
    assert {name: strip(items) for name, items in answer.items()} == {
        name: strip(items) for name, items in theirs.items()
    }


def strip(items: list[dict[str, Any]]) -> list[list[Any]]:
    """Codes and backends only: engines print values of odd types differently."""
    return sorted([item["code"], item.get("backend", "")] for item in items)
