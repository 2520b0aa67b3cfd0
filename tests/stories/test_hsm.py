"""An installation whose keys an HSM holds or wraps: a real SoftHSM2 token, made as the page says (R10.5, R10.2)."""

from __future__ import annotations

import base64
import copy
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from docs.pages import examples, page
from qcos.client import Client
from qcos.evidence.envelope import pae
from qcos.evidence.verify import verify

from .house import House, furnish
from .installation import QCOS, Installation, running

PAGE = page("docs/how-to/use-an-hsm.md")


@dataclass(frozen=True)
class Site:
    """A folder with a token in it, and the environment that the page's commands lead to."""

    folder: Path
    environment: dict[str, str]

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"


@pytest.fixture(scope="module")
def site(component: Callable[[str], Path]) -> Iterator[Site]:
    for name in ("softhsm2", "softhsm2-util", "pkcs11-tool"):
        component(name)
    with tempfile.TemporaryDirectory(prefix="qcos-hsm-") as folder:
        text = "".join(e.text for run in ("token", "settings") for e in examples(PAGE, run=run))
        done = subprocess.run(
            ["sh", "-e", "-c", text + "\nenv -0 > environment"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        assert b"The token has been initialized" in done.stdout
        pairs = (Path(folder) / "environment").read_text().rstrip("\0").split("\0")
        set_there = {k: v for k, _, v in (p.partition("=") for p in pairs) if os.environ.get(k) != v}
        kept = {k: v for k, v in set_there.items() if k.startswith(("QCOS_", "SOFTHSM2_"))}
        assert set(kept) >= {
            "QCOS_KEYSTORE",
            "QCOS_PKCS11_MODULE",
            "QCOS_PKCS11_TOKEN",
            "QCOS_PKCS11_PIN_FILE",
        }
        yield Site(Path(folder), kept)


@pytest.fixture(scope="module")
def installation(site: Site) -> Iterator[Installation]:
    with running(site.folder / ".data", "aer", site.environment) as ready:
        yield ready


@pytest.fixture(scope="module")
def here(installation: Installation) -> Iterator[House]:
    with furnish(installation) as made:
        yield made


@pytest.fixture(scope="module")
def bundle(here: House) -> dict[str, Any]:
    return here.bundle(here.run()["job_id"])


def test_the_page_shows_the_keys_as_they_are(installation: Installation, site: Site) -> None:
    """R10.5: made on the token, never extractable; everything else wrapped."""
    (look,) = examples(PAGE, run="look")
    environment = os.environ | site.environment
    said = subprocess.run(
        ["sh", "-e", "-c", look.text],
        cwd=site.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (shown,) = [e.text for e in examples(PAGE) if "Access:" in e.text]
    for line in shown.splitlines():
        assert line in said.splitlines()
    for file in (installation.data / "keys").glob("*.pem"):
        if file.name != "tsa-chain.pem":
            assert file.read_text().startswith("-----BEGIN QCOS WRAPPED PRIVATE KEY-----")


def test_evidence_is_countersigned_and_verifies_offline_without_the_token(
    bundle: dict[str, Any],
    here: House,
    installation: Installation,
    clean_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """R4.2, R10.5: the verifier needs the trust document alone; it says which key countersigned."""
    (key,) = [k for k in installation.trust["evidence"] if k["algorithm"] == "ECDSA-P384"]
    assert here.qcos_get("/v1/trust").json() == installation.trust
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    command = [QCOS, "evidence", "verify", "bundle.json", "--trust", str(installation.trust_file)]
    environment = {k: v for k, v in clean_environment.items() if not k.startswith("SOFTHSM2")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"countersigned by key {key['keyId']}" in " ".join(done.stdout.split())


def test_openssl_checks_the_countersignature(
    bundle: dict[str, Any], installation: Installation, tmp_path: Path
) -> None:
    envelope = bundle["proof"]["envelope"]
    (tmp_path / "message").write_bytes(pae(envelope["payloadType"], base64.b64decode(envelope["payload"])))
    third = envelope["signatures"][2]
    (tmp_path / "ecdsa-p384.sig").write_bytes(base64.b64decode(third["sig"]))
    (key,) = [k for k in installation.trust["evidence"] if k["keyId"] == third["keyid"]]
    (tmp_path / "key.der").write_bytes(base64.b64decode(key["publicKey"]))
    line = "openssl dgst -sha512 -verify ecdsa-p384.pem -signature ecdsa-p384.sig message"
    assert f"`{line}`" in PAGE.read_text()
    text = f"openssl pkey -pubin -inform DER -in key.der -out ecdsa-p384.pem\n{line}"
    said = subprocess.run(["sh", "-e", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Verified OK" in said.stdout


def test_a_stripped_countersignature_is_noticed(bundle: dict[str, Any], installation: Installation) -> None:
    assert verify(bundle, installation.trust).ok
    stripped = copy.deepcopy(bundle)
    del stripped["proof"]["envelope"]["signatures"][2]
    report = verify(stripped, installation.trust)
    assert "countersignature" in {check.name for check in report.checks if not check.ok}


def test_while_the_token_is_away_jobs_wait_and_none_is_lost(here: House, site: Site) -> None:
    """Law 6: a job that has run is sealed once the token is back, not failed for want of it."""
    aside = site.folder / "aside"
    site.tokens.rename(aside)
    job_id = here.engineer.client.jobs.submit(here.spec())["job_id"]
    try:
        until = time.monotonic() + 120
        while not any(
            r.get("code") == "keys.token_away" or "token" in str(r) for r in here.qcos.log("worker-aer")
        ):
            assert time.monotonic() < until, "the worker says that it waits for the token"
            time.sleep(0.2)
        assert here.engineer.client.jobs.get(job_id)["state"] not in ("completed", "failed")
    finally:
        aside.rename(site.tokens)
    job = here.engineer.client.jobs.wait_for(job_id, timeout_s=90)
    assert job["state"] == "completed", job["error"]
    assert verify(here.bundle(job_id), here.qcos.trust).ok


def _refused(site: Site, **variables: str) -> str:
    command = [QCOS, "up", "--port", "0", "--data", str(site.folder / ".data"), "--drivers", "aer"]
    done = subprocess.run(
        command,
        env={k: v for k, v in os.environ.items() if not k.startswith("QCOS_")} | site.environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    return " ".join((done.stdout + done.stderr).split())


def test_zz_it_starts_again_with_its_token_and_with_no_other(
    installation: Installation, site: Site, bundle: dict[str, Any]
) -> None:
    """R10.5: another or no token, a wrong PIN, no key store: refused with what to do; then everything is as before."""
    trust = installation.trust
    data = site.folder / "copy"
    subprocess.run(["cp", "-a", str(installation.data / "keys"), str(data)], check=True)
    other = Site(site.folder / "other", dict(site.environment))
    (other.folder / ".data").mkdir(parents=True)
    data.rename(other.folder / ".data" / "keys")
    assert "keys.token_away" in _refused(other, QCOS_PKCS11_TOKEN="another")
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "another",
            "--so-pin",
            "1234",
            "--pin",
            "648219",
        ],
        env=os.environ | site.environment,
        check=True,
        capture_output=True,
    )
    assert "keys.missing" in _refused(other, QCOS_PKCS11_TOKEN="another")
    wrong = other.folder / "wrong.pin"
    wrong.write_text("0000")
    wrong.chmod(0o600)
    assert "keys.pin" in _refused(other, QCOS_PKCS11_PIN_FILE=str(wrong))
    assert "keys.protection" in _refused(other, QCOS_KEYSTORE="file")
    with running(other.folder / ".data", "aer", site.environment) as again:
        assert again.trust["evidence"] == trust["evidence"]
        assert verify(bundle, again.trust).ok


def test_zzz_the_countersigning_key_is_rotated_on_the_token(
    installation: Installation, here: House, site: Site, bundle: dict[str, Any]
) -> None:
    """R10.5: `qcos key rotate evidence` makes the next key on the token; workers follow without a restart; both bundles verify."""
    with Client(installation.url, installation.admin_token) as operator:
        made = operator.keys.rotate("evidence", reason="yearly")["made"]
    assert [(key["algorithm"], key["generation"]) for key in made] == [
        ("ML-DSA-65", 2),
        ("Ed25519", 2),
        ("ECDSA-P384", 2),
    ]
    deadline = time.monotonic() + 120
    while True:
        after = here.bundle(here.run()["job_id"])
        if after["proof"]["envelope"]["signatures"][2]["keyid"] == made[2]["key_id"]:
            break
        assert time.monotonic() < deadline, "the worker does not sign with the key in force"
        time.sleep(0.3)
    trust = here.qcos_get("/v1/trust").json()
    assert len([key for key in trust["evidence"] if key["algorithm"] == "ECDSA-P384"]) == 2
    found = {check.name: check.detail for check in verify(after, trust).checks if check.ok}
    assert found["countersignature"] == f"countersigned by key {made[2]['key_id']}"
    for one in (bundle, after):
        report = verify(one, trust)
        assert report.ok, report.reason
    (look,) = examples(PAGE, run="look")
    environment = os.environ | site.environment
    said = subprocess.run(
        ["sh", "-e", "-c", look.text],
        cwd=site.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.count("Private Key Object; EC") == said.count("Secret Key Object") + 1 == 2
    del after["proof"]["envelope"]["signatures"][2]
    assert not verify(after, trust).ok
