"""Where key stores are, and how they are opened: plain values, so that no store's library is needed to name one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from qcos.base.errors import Invalid


@dataclass(frozen=True, slots=True)
class TokenAt:
    """Where a PKCS#11 token is.

    Attributes:
        module: Path of the PKCS#11 module (a shared library).
        token: Its label, or ``serial:`` and its serial number, or ``slot:`` and the slot's number.
        pin: The user's PIN.
        label: What the labels of the keys begin with: installations that share a token have different ones.
    """

    module: str
    token: str
    pin: str = field(repr=False)
    label: str = "qcos"


@dataclass(frozen=True, slots=True)
class TransitAt:
    """Where the transit engine of a Vault or OpenBao server is.

    Attributes:
        url: The server, ``https://...``; ``http://`` only on this machine.
        token_file: File (0600) of a token; read again when the token is refused, for agents renew it there.
        role_id: AppRole to log in with instead.
        secret_id_file: File (0600) of its secret id.
        ca: PEM file of the CA that issued the server's certificate; empty: the system's.
        namespace: Namespace, if the server has them.
        mount: Where the transit engine is mounted.
        approle_mount: Where the AppRole method is mounted.
        label: What the names of the keys begin with: installations that share a server have different ones.
    """

    url: str
    token_file: Path | None = None
    role_id: str = ""
    secret_id_file: Path | None = None
    ca: str = ""
    namespace: str = ""
    mount: str = "transit"
    approle_mount: str = "approle"
    label: str = "qcos"


@dataclass(frozen=True, slots=True)
class KmsAt:
    """Which keys of AWS KMS are used. Credentials come from where AWS's own programs have them.

    Attributes:
        wrapping_key: Symmetric key: its id, ARN or alias.
        mldsa_key: ML_DSA_65 key that makes the first signature of evidence; empty: that key is a wrapped file.
        countersigning_key: ECC_NIST_P384 key; empty: nothing countersigns.
        region: AWS region; empty: as AWS's own programs find it.
        endpoint: URL of a private endpoint; empty: the region's.
    """

    wrapping_key: str
    mldsa_key: str = ""
    countersigning_key: str = ""
    region: str = ""
    endpoint: str = ""


def demand_private(url: str, setting: str) -> None:
    """Demand that nobody can listen on the way to a key store.

    Raises:
        Invalid: ``keys.settings``.
    """
    parts = urlsplit(url)
    try:
        here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = parts.hostname == "localhost"
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise Invalid(
            "keys.settings",
            "the key store would be talked to in clear",
            subject=setting,
            expected="an https:// URL; http:// only on this machine",
            got=url[:200],
        )
