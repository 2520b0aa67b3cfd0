"""The examples of docs/reference/evidence.md do what the page says."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

from qcos.evidence.verify import REQUIRED, REQUIRED_LEDGER

from .conftest import Instance

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "evidence.md"


def _block(language: str, word: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
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


def test_the_page_lists_every_check() -> None:
    text = PAGE.read_text()
    assert [name for name in (*REQUIRED, *REQUIRED_LEDGER) if f"`{name}`" not in text] == []
