"""The reference says what the code says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, cast

import pytest

from qcos.api.errors import STATUS
from qcos.api.main import create_app
from qcos.app import Api
from qcos.jobs.lifecycle import STATES, STEPS
from qcos.jobs.spec import SCHEMA, read_spec
from qcos.settings import Settings

from .pages import ROOT, examples, page, table

API = page("docs/reference/api.md")
JOB_SPEC = page("docs/reference/job-spec.md")
ERRORS = page("docs/reference/errors.md")


@pytest.mark.parametrize("written", ["errors", "configuration", "acts"])
def test_written_pages_are_what_their_program_writes(written: str) -> None:
    made = subprocess.run(
        [sys.executable, f"docs/tools/{written}.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    path = f"docs/reference/{'ledger-acts' if written == 'acts' else written}.md"
    assert page(path).read_text() == made, f"run: python docs/tools/{written}.py > {path}"


def test_configuration_lists_exactly_the_settings() -> None:
    listed = {
        re.sub("[`]", "", row[0])
        for row in table(page("docs/reference/configuration.md"))
        if row[0].startswith("`QCOS_")
    }
    assert listed == {f"QCOS_{field.upper()}" for field in Settings.model_fields}


def test_errors_lists_every_code_that_is_raised() -> None:
    """Found here by plain search, apart from the program that writes the page."""
    listed = {row[0].strip("`") for row in table(ERRORS)}
    families = "Invalid|NotFound|Conflict|Denied|Limit|Unavailable|DriverError|Integrity"
    raised = {
        (code, path.name)
        for path in (ROOT / "src").rglob("*.py")
        for code in re.findall(rf'\b(?:{families})\(\s*"([a-z_]+\.[a-z0-9_]+)"', path.read_text())
    }
    rego = {
        (code, path.name)
        for path in (ROOT / "src").rglob("*.rego")
        if not path.name.endswith("_test.rego")
        for code in re.findall(r'"code": "([a-z_]+\.[a-z_]+)"', path.read_text())
    }
    assert len(raised) > 150
    assert len(rego) > 5
    assert {(code, where) for code, where in raised | rego if code not in listed} == set()


def test_errors_tells_the_true_statuses() -> None:
    families = {row[0].strip("`"): row[2] for row in table(ERRORS) if row[0].strip("`") in STATUS}
    assert {family: int(text.split(";")[0]) for family, text in families.items()} == STATUS


def test_job_spec_lists_exactly_the_fields_of_the_schema() -> None:
    """R2: the page and the JSON Schema tell the same fields, and which of them are required."""
    documented = {row[0].strip("`"): row[1] == "yes" for row in table(JOB_SPEC, "## Fields")}
    fields = dict(_fields(SCHEMA, ""))
    assert documented == fields


def _fields(schema: dict[str, Any], prefix: str) -> list[tuple[str, bool]]:
    found = []
    for name, field in schema.get("properties", {}).items():
        inner = SCHEMA["$defs"][field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else field
        found.append((prefix + name, name in schema.get("required", [])))
        found += _fields(inner, f"{prefix}{name}.")
    return found


def test_job_spec_example_is_accepted() -> None:
    """The example is Listing 1 of the white paper, with a circuit."""
    (example,) = [e for e in examples(JOB_SPEC, language="json") if "job-spec" in e.words]
    spec = read_spec(example.text.encode())
    assert spec.job_id == "qcos-job-2026-01-09-a7f3"
    assert spec.circuits[0].source.startswith(b"OPENQASM 3.0;")


def test_job_spec_tells_bounds_of_the_schema() -> None:
    rows = {row[0].strip("`"): row[2].replace(",", "") for row in table(JOB_SPEC, "## Fields")}
    execution = SCHEMA["properties"]["execution"]["properties"]
    constraints = execution["backend_constraints"]["properties"]
    bounded = {"execution.shots": execution["shots"], "execution.seed": execution["seed"]} | {
        f"execution.backend_constraints.{name}": constraints[name] for name in ("min_qubits", "max_depth")
    }
    for name, rule in bounded.items():
        assert rows[name] == f"{rule['minimum']} to {rule['maximum']}", name


def _routes() -> dict[str, dict[str, Any]]:
    paths = create_app(cast(Api, None)).openapi()["paths"]  # the parts are needed by requests only
    return {f"{verb.upper()} {path}": given for path, verbs in paths.items() for verb, given in verbs.items()}


def test_api_lists_exactly_the_routes() -> None:
    documented = [row[0].strip("`") for row in table(API) if re.match("`(GET|POST|PUT|DELETE) ", row[0])]
    assert sorted(documented) == sorted(_routes())


def test_api_names_every_query_parameter() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(API)}
    missing = [
        (route, parameter["name"])
        for route, given in _routes().items()
        for parameter in given.get("parameters", [])
        if parameter["in"] == "query" and f"`{parameter['name']}`" not in rows[route]
    ]
    assert missing == []


def test_api_names_states_and_steps() -> None:
    text = API.read_text()
    assert [state for state in STATES if f"`{state}`" not in text] == []
    assert [step for step, n in STEPS.items() if f"{n} `{step}`" not in text.replace("\n", " ")] == []


def test_telemetry_page_lists_the_instruments() -> None:
    source = (ROOT / "src/qcos/telemetry/instruments.py").read_text()
    rows = table(page("docs/how-to/export-telemetry.md"))
    listed = {row[0].strip("`") for row in rows if row[0].startswith("`qcos.")}
    assert listed == set(re.findall(r'"(qcos\.[a-z.]+)"', source))


def test_architecture_shows_the_layers_that_are_checked() -> None:
    contracts = (ROOT / "pyproject.toml").read_text()
    (block,) = re.findall(r"layers = \[\n(.*?)\n\]", contracts, re.DOTALL)
    layers = [
        sorted(re.split(r"\s*\|\s*", json.loads(line.rstrip(","))))
        for line in map(str.strip, block.splitlines())
    ]
    text = page("ARCHITECTURE.md").read_text()
    (picture,) = re.findall(r"## Layers\n.*?```\n(.*?)```", text, re.DOTALL)
    shown = [
        sorted(re.split(r"\s*\|\s*", re.split(r"\s{2,}", line.strip())[0])) for line in picture.splitlines()
    ]
    assert shown == layers
