"""The examples of docs/reference/evidence.md do what the page says."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from qcos.base.limits import MAX_MATERIAL_BYTES, MAX_MATERIALS_BYTES
from qcos.evidence.bundle import payload_of, seal_all
from qcos.evidence.levels import LEVELS, MAY_BE_ABSENT
from qcos.evidence.verify import REQUIRED, REQUIRED_LEDGER

from .conftest import Instance, facts, full_facts

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference"
PAGE, TIME = REFERENCE / "evidence.md", REFERENCE / "timestamp.md"


def _block(language: str, word: str, page: pathlib.Path = PAGE) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return str(block)


def test_other_tools_verify_a_bundle_as_the_page_says(
    bundle: dict[str, Any], instance: Instance, tmp_path: pathlib.Path
) -> None:
    """R4.2."""
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "trust.json").write_text(json.dumps(instance.trust))

    def run(*arguments: str) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout + done.stderr

    out = run(sys.executable, "-W", "ignore", "-c", _block("python", "load_der_public_key"))
    assert out.splitlines() == ["ML-DSA-65 holds", "Ed25519 holds"]
    assert "Verification: OK" in run("sh", "-c", _block("sh", "openssl ts"))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_other_tools_verify_a_batch_as_the_page_says(
    instance: Instance, tmp_path: pathlib.Path, size: int
) -> None:
    """R4.2: the RFC 4998 hash tree, with nothing of QCOS."""
    given = facts()
    standard = dataclasses.replace(
        given, governance=dataclasses.replace(given.governance, evidence_level="standard")
    )
    sealed = seal_all([standard] * size, instance.keyring.evidence, instance.authority)
    (tmp_path / "authority.pem").write_text(instance.trust["timestamp"][0]["chain"])
    for one in sealed:
        (tmp_path / "bundle.json").write_bytes(one.document)
        for command in (
            [sys.executable, "-c", _block("python", "asn1crypto", TIME)],
            ["sh", "-c", _block("sh", "openssl ts -verify", TIME)],
        ):
            done = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
            )
        assert "Verification: OK" in done.stdout + done.stderr


def test_the_page_lists_every_check() -> None:
    text = PAGE.read_text()
    assert [name for name in (*REQUIRED, *REQUIRED_LEDGER) if f"`{name}`" not in text] == []


def test_the_page_of_levels_names_every_member() -> None:
    text = (REFERENCE / "evidence-levels.md").read_text()
    for level in LEVELS:
        assert f"`{level}`" in text
    for name in MAY_BE_ABSENT | {"decision-input", "proof.decision", "evidence.toolchain"}:
        assert f"`{name}" in text
    assert f"{MAX_MATERIAL_BYTES // 1024**2} MiB" in text and f"{MAX_MATERIALS_BYTES // 1024**2} MiB" in text


def test_the_decision_is_checked_as_the_page_says(instance: Instance, tmp_path: pathlib.Path) -> None:
    """R3.6, R4.2: and its place in the ledger, by the lines the page has for the record of the sealing."""
    page = REFERENCE.parent / "how-to" / "verify-offline-with-openssl.md"
    sealed = instance.seal(full_facts())
    (tmp_path / "bundle.json").write_text(json.dumps(instance.bundle(sealed)))
    (tmp_path / "statement.json").write_bytes(payload_of(sealed.document))

    def run(code: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()

    text = page.read_text()
    (decision,) = re.findall(r"```python run=decision\n(.*?)```", text, re.DOTALL)
    (ledger,) = re.findall(r"```python run=ledger\n(.*?)```", text, re.DOTALL)
    assert run(decision) == [
        "the record is the one named: True",
        "it allows this job: True",
        "on this input: True",
    ]
    (line,) = re.findall(r"`(proof = \{.*?\})`", text)
    reads = next(line for line in ledger.splitlines() if line.startswith("proof = "))
    assert run(ledger.replace(reads, f"{reads}\n{line}"))[0] == "in the ledger: True"
    assert run(ledger)[0] == "in the ledger: True"
