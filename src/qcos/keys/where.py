"""Where key stores are, and how they are opened: plain values, so that no store's library is needed to name one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
