"""The store that an address names."""

from __future__ import annotations

from qcos.base.errors import Invalid
from qcos.worm.files import open_folder
from qcos.worm.model import WormStore
from qcos.worm.s3 import open_bucket


def open_store(address: str, *, endpoint: str = "", region: str = "") -> WormStore:
    """Open ``file:/path`` or ``s3://bucket/prefix``.

    Args:
        address: The address.
        endpoint: URL of an S3 server that is not AWS.
        region: Its region.

    Raises:
        Invalid: ``worm.address`` or ``worm.package``.
    """
    if address.startswith("file:"):
        return open_folder(address)
    if address.startswith("s3:"):
        return open_bucket(address, endpoint, region)
    raise Invalid(
        "worm.address",
        "not the address of a WORM store",
        subject=address[:200],
        expected="file:/path or s3://bucket/prefix",
    )
