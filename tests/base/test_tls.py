"""Whom connections trust: nobody where nothing is encrypted, and the authorities of the environment, as httpx does, where it is."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi
import pytest

from qcos.base import tls


@pytest.mark.parametrize("url", ["http://127.0.0.1:8114", "HTTP://qcos.example", "nonsense", ""])
def test_in_clear_text_nobody_is_trusted(url: str) -> None:
    context = tls.trusted(url)
    assert context.cert_store_stats()["x509_ca"] == 0
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("url", ["https://qcos.example", "HTTPS://qcos.example/v1"])
def test_over_tls_the_worlds_authorities_are_and_read_once(url: str) -> None:
    context = tls.trusted(url)
    assert context.cert_store_stats()["x509_ca"] > 50
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls.trusted("https://another.example") is context


def test_the_environment_may_name_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "one.pem"
    first, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    one.write_text(first + Path(certifi.where()).read_text().split(first)[1].split(end)[0] + end + "\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    assert tls.trusted("https://qcos.example").cert_store_stats()["x509_ca"] == 1
    one.write_bytes(Path(certifi.where()).read_bytes())
    os.utime(one, ns=(1, 1))
    assert tls.trusted("https://qcos.example").cert_store_stats()["x509_ca"] > 50, "it was replaced"
    assert tls.trusted("https://qcos.example", trust_env=False).cert_store_stats()["x509_ca"] > 50
