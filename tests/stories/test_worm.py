"""R5.6: with one setting, ledger and evidence stand in a WORM store, too; the operator sees what was tampered with there."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcos.worm.files import _set_immutable

from .house import furnish
from .installation import QCOS, Installation, running
from .test_cli import run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A folder for copies; its files can be removed afterwards."""
    yield tmp_path / "worm"
    for path in (tmp_path / "worm").rglob("*"):
        if path.is_file():
            _set_immutable(path, False)


@pytest.fixture
def site(tmp_path: Path, store: Path) -> Iterator[tuple[Installation, Path]]:
    """An installation that copies to a folder."""
    variables = {"QCOS_WORM": f"file:{store}", "QCOS_WORM_INTERVAL_S": "3600"}
    with running(tmp_path / "data", "aer", variables) as qcos:
        yield qcos, store


def command(
    site: tuple[Installation, Path], environment: dict[str, str], *words: str
) -> tuple[int, dict[str, Any]]:
    qcos, store = site
    variables = environment | {"QCOS_DATA": str(qcos.data), "QCOS_WORM": f"file:{store}"}
    done = subprocess.run(
        [QCOS, *words, "--json"], capture_output=True, text=True, env=variables, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_an_operator_copies_verifies_restores_and_sees_tampering(
    site: tuple[Installation, Path], clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """R5.6."""
    code, copied = command(site, clean_environment, "worm", "copy")
    assert code == 0
    assert copied["size"] >= 5, "the first start recorded its acts"
    code, checked = command(site, clean_environment, "worm", "verify")
    assert (code, checked["ok"]) == (0, True)
    assert checked["copies"] >= 3
    code, seen = command(site, clean_environment, "worm", "status")
    assert (code, seen["failing_since"], seen["failed"]) == (0, None, None)
    assert seen["succeeded"]
    assert sum(kind["count"] for kind in seen["copies"].values()) == checked["copies"]

    restored = tmp_path / "restored"
    code, _ = command(site, clean_environment, "worm", "restore", str(restored))
    assert code == 0
    qcos, store = site
    code, report = command(
        site, clean_environment, "ledger", "fsck", str(restored), "--trust", str(qcos.trust_file)
    )
    assert (code, report["ok"], report["size"]) == (0, True, copied["size"])

    tile = next(path for path in store.glob("ledger/tile/0/**/*") if path.is_file())
    _set_immutable(tile, False)
    tile.chmod(0o600)
    tile.write_bytes(b"\0" * 32)
    code, checked = command(site, clean_environment, "worm", "verify")
    assert (code, checked["ok"]) == (1, False)
    assert {finding["name"] for finding in checked["findings"]} == {str(tile.relative_to(store))}
    code, seen = command(site, clean_environment, "worm", "status")
    assert str(tile.relative_to(store)) in [finding["name"] for finding in seen["findings"]]


def test_a_bundle_comes_back_from_the_store_with_its_renewals(
    tmp_path: Path, store: Path, clean_environment: dict[str, str]
) -> None:
    """R4.3, R5.6: what was renewed after it was copied verifies from the restored file, as of any time its newest stamp counts."""
    variables = {"QCOS_WORM": f"file:{store}", "QCOS_WORM_INTERVAL_S": "3600"}
    with running(tmp_path / "data", "aer", variables) as qcos, furnish(qcos) as house:
        site = (qcos, store)
        job = house.run()
        name = f"evidence/{house.tenant}/{house.bundle(job['job_id'])['bundle_id']}"
        code, _ = command(site, clean_environment, "worm", "copy")
        assert code == 0
        run(house.admin, clean_environment, "evidence", "renew", "--all", "--reason", "a rehearsal")
        code, copied = command(site, clean_environment, "worm", "copy")
        assert (code, copied["bundles"]) == (0, 1)
        file, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
        code, written = command(site, clean_environment, "worm", "bundle", name, "--output", str(file))
        assert (code, written["renewals"]) == (0, 1)
        trust.write_text(json.dumps(qcos.trust))
        words = ("evidence", "verify", str(file), "--trust", str(trust), "--at", "now")
        (report,) = run(house.engineer, clean_environment, *words)
        assert report["ok"]
        assert len(report["facts"]["renewals"]) == 1


def test_a_store_that_is_not_there_holds_up_nothing(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """The archive is never in a job's path: a wrong address is an error in a log and in the status, not an outage."""
    variables = {
        "QCOS_WORM": "s3://nowhere",
        "QCOS_WORM_ENDPOINT": "http://127.0.0.1:9",
        "QCOS_WORM_INTERVAL_S": "0.2",
    }
    variables |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    with running(tmp_path / "data", "aer", variables) as qcos:
        for _ in range(600):
            lines = [line for line in qcos.log("duties") if "nothing was copied" in json.dumps(line)]
            if lines:
                break
            time.sleep(0.1)
        assert lines, "the refusal is in the log"
        done = subprocess.run(
            [QCOS, "worm", "status", "--json"],
            capture_output=True,
            text=True,
            env=clean_environment | variables | {"QCOS_DATA": str(qcos.data)},
            check=False,
        )
        seen = json.loads(done.stdout)
        assert (seen["succeeded"], seen["protection"]) == (None, "unknown")
        assert seen["failing_since"] <= seen["failed"]
        assert "object store" in seen["failure"]
        assert done.returncode not in (0, 1), "it says itself that the store cannot be used"
        assert "worm.unavailable" in done.stderr
