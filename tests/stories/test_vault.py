"""An installation whose keys a customer's OpenBao server holds or wraps, set up as the page says (R10.2, R10.5)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import examples, page
from qcos.evidence.verify import verify
from real_keystores import Bao, bao_server

from .house import furnish
from .installation import running

PAGE = page("docs/how-to/use-vault.md")


@pytest.fixture(scope="module")
def own(bao_program: Path) -> Iterator[Bao]:
    with (
        tempfile.TemporaryDirectory(prefix="qcos-vault-") as folder,
        bao_server(bao_program, Path(folder)) as bao,
    ):
        bao.client().sys.disable_secrets_engine("transit")  # the page mounts it
        yield bao


def _typed(own: Bao, text: str) -> str:
    """Type lines of the page as the server's administrator."""
    administrator = {
        "BAO_ADDR": own.url,
        "BAO_TOKEN": "root",
        "BAO_CACERT": str(own.ca),
        "HOME": str(own.folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "-e", "-c", text],
        cwd=own.folder,
        env=administrator,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_commands_lead_to_evidence_that_needs_the_server(own: Bao) -> None:
    """R10.2, R10.5: two signatures are by keys that the server holds; its wrapping key is rotated; a verifier needs none of it."""
    server, settings, rotate = (examples(PAGE, run=run)[0].text for run in ("server", "settings", "rotate"))
    said = _typed(own, server + settings + "\nenv -0 | tr '\\0' '\\n' | grep ^QCOS_")
    variables = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("QCOS_"))
    assert variables["QCOS_KEYSTORE"] == "transit"
    data = own.folder / "data"
    with running(data, "aer", variables) as qcos, furnish(qcos) as house:
        trust = qcos.trust
        bundle = house.bundle(house.run()["job_id"])
        report = verify(bundle, qcos.trust)
        assert report.ok, report.reason
        assert "countersignature" in {check.name for check in report.checks}
        held = {key["algorithm"]: key["keyId"] for key in qcos.trust["evidence"]}
        assert not (data / "keys" / "evidence-ed25519.pem").exists()
        assert [s["keyid"] for s in bundle["proof"]["envelope"]["signatures"]] == [
            held[name] for name in ("ML-DSA-65", "Ed25519", "ECDSA-P384")
        ]
    _typed(own, rotate)
    with running(data, "aer", variables) as again, furnish(again) as house:
        assert again.trust["evidence"] == trust["evidence"]
        assert verify(bundle, again.trust).ok
        assert verify(house.bundle(house.run()["job_id"]), again.trust).ok
