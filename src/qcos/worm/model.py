"""What a WORM store keeps, and what it must be able to say about it."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from qcos.base.errors import Invalid
from qcos.base.limits import WORM_COPY_BYTES

Protection = Literal["compliance", "immutable", "read-only"]
"""How strongly a copy is protected: by an S3 server in compliance mode; by the file system's immutable flag, which
only root can take away; by file mode alone, which only keeps mistakes away."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*", re.ASCII)
_LONGEST: Final = 512  # characters of a name; S3 allows 1,024 bytes, the prefix included


@dataclass(frozen=True, slots=True)
class Item:
    """Bytes to be kept.

    Attributes:
        name: Relative name, parts separated by ``/``.
        data: The bytes.
        retain_until: Until when nobody may remove them, UTC.
    """

    name: str
    data: bytes
    retain_until: dt.datetime

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if (
            len(self.name) > _LONGEST
            or not _NAME.fullmatch(self.name)
            or any(p.startswith(".") for p in parts)
        ):
            raise Invalid(
                "worm.name",
                "not the name of a WORM copy",
                subject=self.name[:80],
                expected="letters, digits, '_', '-', '.', parts separated by '/'",
            )

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the bytes."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy as the store took it.

    Attributes:
        name: Its name.
        digest: SHA-256 of its bytes.
        size: Bytes.
        version: The store's own id of these very bytes (S3: version id; files: empty).
        retain_until: Until when the store was seen to protect it, UTC.
        protection: How.
    """

    name: str
    digest: bytes
    size: int
    version: str
    retain_until: dt.datetime
    protection: Protection


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was kept: somebody altered or removed a copy, or tried to.

    Attributes:
        code: Stable code, ``worm.*``.
        name: The copy.
        message: What is the matter.
    """

    code: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Rounds:
    """How the rounds of copying to a store went; instants are UTC, None: never.

    Attributes:
        succeeded_at: When one last succeeded.
        failing_since: Since when none did; None when the last one succeeded.
        failed_at: When one last failed.
        failure: Why.
    """

    succeeded_at: dt.datetime | None = None
    failing_since: dt.datetime | None = None
    failed_at: dt.datetime | None = None
    failure: str = ""


class WormStore(Protocol):
    """Somewhere that keeps bytes unchangeable. Safe for one thread at a time; two processes at once are harmless."""

    @property
    def address(self) -> str:
        """Return where it is, as configured and without credentials; its name in records and tables."""
        ...

    def check(self) -> Protection:
        """Make sure that the store protects what it takes, before it is trusted with anything.

        Raises:
            Invalid: ``worm.unprotected``: it would let copies be changed.
            Unavailable: ``worm.unavailable``.
        """
        ...

    def keep(self, item: Item) -> Kept:
        """Keep bytes under a name that is free; the same bytes again give the same copy, protected until the later date.

        Raises:
            Integrity: ``worm.changed`` when the name holds other bytes; ``worm.unprotected`` when the store took the
                bytes but does not protect them.
            Unavailable: ``worm.unavailable``.
        """
        ...

    def lengthen(self, kept: Kept, until: dt.datetime) -> Kept:
        """Protect a copy until a later date; an earlier one changes nothing. Returns the copy as it is protected now.

        Raises:
            NotFound: ``worm.missing``.
            Integrity: ``worm.unprotected`` when the store took the date and does not hold to it.
            Unavailable: ``worm.unavailable``.
        """
        ...

    def examine(self, kept: Kept, *, content: bool) -> list[Finding]:
        """Compare a copy with what the store holds now; with ``content`` its bytes, too.

        Raises:
            Unavailable: ``worm.unavailable``.
        """
        ...

    def read(self, name: str, version: str = "", limit: int = WORM_COPY_BYTES) -> bytes:
        """Return the bytes of a copy: of one version, else the oldest there is, which is the one that was kept.

        Raises:
            NotFound: ``worm.missing``.
            Integrity: ``worm.changed`` when it is longer than ``limit`` bytes, or no copy at all.
            Unavailable: ``worm.unavailable``.
        """
        ...

    def names(self) -> Iterator[str]:
        """Yield the names of all copies, in no order; works without a database."""
        ...
