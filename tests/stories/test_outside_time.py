"""Evidence is stamped by an outside authority while it answers, and by the own one when that is allowed (R1.2)."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcos.evidence.envelope import from_base64
from qcos.evidence.verify import verify
from qcos.timestamp.verify import verify_token
from timestamp.service import serving

from .house import House, furnish
from .installation import running


@pytest.fixture
def furnished() -> Iterator[tuple[House, contextlib.ExitStack, bytes]]:
    """A house whose installation asks another authority first; closing the stack ends that authority."""
    with tempfile.TemporaryDirectory(prefix="qcos-outside-") as folder, contextlib.ExitStack() as outside:
        tsa = outside.enter_context(serving(Path(folder) / "outside"))
        pins = Path(folder) / "pins.pem"
        pins.write_bytes(tsa.get("/certificate").content)
        variables = {"QCOS_TSA_URLS": f"{tsa.url} local", "QCOS_TSA_CERTIFICATES": str(pins)}
        variables |= {"QCOS_TIME_SOURCES": tsa.url, "QCOS_TIME_POLL_S": "1"}
        variables |= {
            "QCOS_TSA_TIMEOUT_S": "60"
        }  # one that is slow on a loaded machine is not one that is dead
        with running(Path(folder) / "data", "aer", variables) as qcos, furnish(qcos) as house:
            yield house, outside, pins.read_bytes()


def test_the_outside_authority_stamps_then_the_own_one(
    furnished: tuple[House, contextlib.ExitStack, bytes],
) -> None:
    """R1.2, R4.2: the trust document names both; a bundle says who stamped it; a dead authority stops no job."""
    house, outside, pins = furnished
    trust = house.qcos.trust
    assert len(trust["timestamp"]) == 2
    bundles = []
    for _ in range(2):
        job = house.run(house.spec(evidence_requirements={"level": "full"}))
        bundles.append(house.bundle(job["job_id"]))
        outside.close()
    for bundle, own, certificate in (
        (bundles[0], False, pins.decode()),
        (bundles[1], True, trust["timestamp"][0]["certificate"] + trust["timestamp"][0]["chain"]),
    ):
        report = verify(bundle, trust)
        assert report.ok, report.reason
        token = from_base64(bundle["proof"]["timestamp"], "/proof/timestamp")
        signature = from_base64(bundle["proof"]["envelope"]["signatures"][0]["sig"], "/sig")
        info = verify_token(token, signature, [certificate])
        assert report.facts["authority"] == info.authority
        assert (info.nonce is None) == own
