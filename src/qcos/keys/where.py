"""Where key stores are, and how they are opened: plain values, so that no store's library is needed to name one."""

from __future__ import annotations

from dataclasses import dataclass, field


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
