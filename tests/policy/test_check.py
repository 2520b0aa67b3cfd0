"""Bundles that must not be accepted, and the reports of Rego tests."""

from __future__ import annotations

from typing import Any

import pytest

from qcos.base.errors import Invalid
from qcos.policy import bundle, check
from qcos.policy.builtins import ALLOWED, REFUSED
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.samples import sample


def refused(files: dict[str, str], *, complete: bool = False) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check.validate(bundle.of(files), complete=complete)
    assert caught.value.code == "policy.bundle"
    assert "backtrace" not in str(caught.value).lower()
    return caught.value


def body(text: str) -> dict[str, str]:
    return {"jobs/x.rego": f"package qcos.jobs.x\n{text}\n"}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("deny contains {", 3, "expect"),
        ("allow { true }", 2, "`if` keyword is required"),
        ('deny contains "x" if q > 1', 2, "unsafe"),
        ('deny contains "x" if nosuch(1)', 2, "there is no function nosuch"),
        ('deny contains "x" if crypto.sha256("a") == "b"', 2, "there is no function crypto.sha256"),
        ('deny contains "x" if data.other.f(1)', 2, "there is no function data.other.f"),
        ('deny contains "x" if count[1](2)', 2, ""),
        ('deny := {"x"}', 2, "deny is not a set"),
        ('default deny := {"x"}', 2, "deny is not a set"),
        ('deny["x"] := 1', 2, "deny is not a set"),
        ('deny contains "x" if http.send({"url": "http://localhost"}).status_code == 200', 2, "http.send"),
        ('deny contains "x" if http["send"]({"url": "http://localhost"}).status_code == 200', 2, "http.send"),
        ('deny contains "x" if count("a") == 200 with count as http.send', 2, "http.send"),
        ('deny contains "x" if rand.intn("a", 2) == 1', 2, "rand.intn"),
        ('deny contains "x" if opa.runtime().env.PATH', 2, "opa.runtime"),
        ('deny contains "x" if net.lookup_ip_addr("localhost")', 2, "net.lookup_ip_addr"),
        ('deny contains uuid.rfc4122("a")', 2, "uuid.rfc4122"),
        ('deny contains "' + "x" * 2000 + '"', 2, "column"),
    ],
)
def test_wrong_source_is_refused_with_its_place(text: str, line: int, told: str) -> None:
    """R3.1: every problem carries file and line; no policy reaches network, chance or environment."""
    error = refused(body(text))
    messages = [problem.message for problem in error.problems]
    assert any(told in message for message in messages), messages
    assert any(message.startswith(f"jobs/x.rego:{line}:") for message in messages), messages


def check_or_refuse(files: dict[str, str]) -> None:
    try:
        check.validate(bundle.of(files), complete=False)
    except Invalid as error:
        assert error.problems or error.got


@pytest.mark.parametrize(
    "text",
    [
        'deny contains "x" if ' + "(" * 400 + "true" + ")" * 400,
        "deny contains [\n" + "[\n" * 9000 + "]\n" * 9000 + "]",
        "deny contains 1 if {\n" + "not " * 200 + "true }",
        "deny contains {\n" + "{1: \n" * 9000 + "1" + "}\n" * 9000 + "}",
        "deny contains 1 if true\n" * 15_000,
        "deny contains x if x := " + "+\n".join(["1"] * 15_000),
        "\n" * 25_000 + "deny contains 1",
        "\ufeff\u202edeny contains 1",
        'deny contains "x" if "' + "a" * 900,
    ],
    ids=["parentheses", "brackets", "nots", "objects", "rules", "terms", "lines", "marks", "string"],
)
def test_monstrous_source_is_survived(text: str) -> None:
    """Hostile bundles end in a refusal or an answer, in bounded time and memory."""
    check_or_refuse(body(text))


def test_all_problems_are_told_at_once() -> None:
    error = refused(
        {
            "jobs/a.rego": "package qcos.jobs.a\ndeny contains 1 if http.send(1)\ndeny contains 2 if no(1)\n",
            "b.rego": 'package qcos.job.b\ndeny contains "x" if true\n',
            "jobs/c.rego": "package qcos.jobs.c\nhelper := 1\n",
        }
    )
    told = " | ".join(problem.message for problem in error.problems)
    assert "jobs/a.rego:2:" in told and "jobs/a.rego:3:" in told
    assert "package qcos.job.b would never be asked" in told
    assert "qcos.jobs.c has no rule deny or exclude" in told
    assert {problem.pointer for problem in error.problems} == {
        "/files/jobs~1a.rego",
        "/files/b.rego",
        "/files/jobs~1c.rego",
    }


def test_policies_that_nothing_would_ask_are_refused() -> None:
    """A misspelt package would silently never deny."""
    for package in ("qcos.jobs", "qcos.job.x", "main", "qcos.jobs.x.y", "qcos.engine", "qcos.acts"):
        assert "would never be asked" in str(refused({"x.rego": f'package {package}\ndeny contains "x"\n'}))
    told = str(refused({"acts/x.rego": 'package qcos.acts.x\nexclude contains {"backend": "x"}\n'}))
    assert "qcos.acts.x has no rule deny" in told


def test_tests_and_policies_are_kept_apart() -> None:
    files = {"jobs/x.rego": 'package qcos.jobs.x_test\ndeny contains "x"\n'}
    assert "disagree on being a test" in str(refused(files))
    files = {"jobs/x_test.rego": 'package qcos.jobs.x\ndeny contains "x"\n'}
    assert "disagree on being a test" in str(refused(files))


def test_bundle_needs_policies_for_both_entrypoints() -> None:
    """Active, a bundle without policies for acts would lock everybody out."""
    error = refused(body('deny contains "x" if false'), complete=True)
    assert [problem.code for problem in error.problems] == ["policy.missing"]
    assert "qcos.acts" in error.problems[0].message


def test_bundle_that_fails_on_the_sample_is_refused() -> None:
    error = refused(body('deny contains "x" if to_number(input.job.project) > 1'))
    assert "jobs/x.rego:2:" in error.problems[0].message and error.problems[0].code == "policy.error"


def test_recursion_is_refused() -> None:
    error = refused(body('deny contains "x" if p\np if q\nq if p'))
    assert "jobs/x.rego:3:1: recursion detected" in error.problems[0].message
    error = refused(body('deny contains "x" if f(1) == 2\nf(x) := g(x)\ng(x) := f(x + 1)'))
    assert [problem.message for problem in error.problems] == [
        "jobs/x.rego:3:1: qcos.jobs.x.f calls itself: recursion",
        "jobs/x.rego:4:1: qcos.jobs.x.g calls itself: recursion",
    ]


def test_functions_of_libraries_and_imports_are_known() -> None:
    files = {
        "lib/text.rego": "package qcos.lib.text\nshout(x) := upper(x)\n",
        "jobs/x.rego": (
            "package qcos.jobs.x\nimport data.qcos.lib.text\nimport data.qcos.lib.text as t\nimport rego.v1\n"
            'deny contains text.shout("a") if false\n'
            'deny contains t.shout("a") if false\n'
            'deny contains data.qcos.lib.text.shout("a") if false\n'
            'deny contains own("a") if false\nown(x) := x\n'
        ),
    }
    assert check.validate(bundle.of(files), complete=False).libraries == ("qcos.lib.text",)
    files["lib/text.rego"] = "package qcos.lib.text\nwhisper(x) := lower(x)\n"
    assert len(refused(files).problems) == 3


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_allowed_functions_exist(name: str) -> None:
    """A call of an allowed function never ends in "could not find function"."""
    regorus = pytest.importorskip("regorus")
    told = []
    for arguments in ("1", "1, 1", "1, 1, 1", ""):
        engine = regorus.Engine()
        engine.set_gather_prints(True)
        engine.add_policy("a.rego", f"package a\nx := y if {{ y := {name}({arguments}) }}")
        try:
            engine.eval_rule_as_json("data.a.x")
            return
        except (RuntimeError, BaseException) as error:  # pyo3 panics are no Exception
            told.append(str(error))
    assert not all("could not find function" in text for text in told)


def test_refused_functions_are_not_allowed() -> None:
    assert not ALLOWED & set(REFUSED)


def test_report_of_tests() -> None:
    """R3.1: results, what failed and why, what was printed, and which lines were not reached."""
    files = body('deny contains "x" if {\n\tinput.n > 1\n}\n\ndeny contains "y" if {\n\tinput.m\n}')
    files["jobs/x_test.rego"] = (
        "package qcos.jobs.x_test\nimport data.qcos.jobs.x\n"
        'test_passes if {\n\tprint("seen", 7)\n\t"x" in x.deny with input as {"n": 2}\n}\n'
        'test_fails if "y" in x.deny with input as {"n": 2}\n'
        "test_false := false\n"
        'test_breaks if to_number("q") == 1\n'
        "helper := 1\n"
    )
    report = check.run_tests(bundle.of(files))
    by_name = {result.name.rsplit(".", 1)[1]: result for result in report.results}
    assert set(by_name) == {"test_passes", "test_fails", "test_false", "test_breaks"}
    assert by_name["test_passes"].passed and "seen 7" in by_name["test_passes"].prints[0]
    assert by_name["test_fails"].message == "undefined"
    assert by_name["test_false"].message == "is false, not true"
    assert by_name["test_breaks"].message.startswith("jobs/x_test.rego:9:")
    assert (report.passed, report.failed, report.ok) == (1, 3, False)
    (coverage,) = report.coverage
    assert coverage.path == "jobs/x.rego" and 6 in coverage.not_covered and coverage.percent < 100
    told: dict[str, Any] = report.as_dict()
    assert told["failed"] == 3 and told["coverage"][0]["not_covered"] == [6]


def test_bundle_without_tests_is_not_ok() -> None:
    assert not check.run_tests(bundle.of(body('deny contains "x"'))).ok


def test_tests_that_run_away_are_stopped() -> None:
    files = body('deny contains "x"')
    files["jobs/x_test.rego"] = (
        "package qcos.jobs.x_test\n"
        "n := numbers.range(1, 9000)\n"
        "test_long if count([1 | some i in n; some j in n; i == 0 - j]) > 0\n"
    )
    with pytest.raises(Invalid) as caught:
        check.run_tests(bundle.of(files), deadline_s=1.0)
    assert "deadline" in caught.value.got


def test_lockout_is_refused(policy_engine: PolicyEngine) -> None:
    """A bundle under which nobody could put it right is not activated."""
    document = sample("acts")
    document.update(act="policy.activate", own=False)
    document["principal"] |= {"roles": ["quantum-admin"], "tenant_roles": ["quantum-admin"]}
    check.refuse_lockout(policy_engine, bundle.shipped(), document)
    locked = bundle.extend(
        bundle.shipped(), {"acts/no.rego": 'package qcos.acts.no\ndeny contains "never"\n'}
    )
    with pytest.raises(Invalid) as caught:
        check.refuse_lockout(policy_engine, locked, document)
    assert caught.value.code == "policy.lockout" and caught.value.problems[0].message == "never"
