"""A WORM store on S3 Object Lock in compliance mode: nobody, the account's root included, can shorten or remove it.

The server is not believed: versioning and object lock of the bucket are demanded at the start, mode and date
of each object are read back after it was put, and an examination looks for what a lax server lets happen:
delete markers, newer versions on top, shortened dates, missing versions.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid, NotFound, Unavailable
from qcos.base.limits import WORM_COPY_BYTES, WORM_ON_TOP
from qcos.worm.model import Finding, Item, Kept, Protection

_SECOND: Final = dt.timedelta(seconds=1)  # S3 keeps dates to the millisecond, some servers to the second
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"})
# What is there and given to nobody: in an archive's storage class, under a key of the one who put it.
_CLOSED: Final = frozenset(
    {"InvalidObjectState", "InvalidRequest", "KMS.DisabledException", "KMS.NotFoundException"}
)


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where in S3.

    Attributes:
        bucket: The bucket; made with Object Lock.
        prefix: Before each name; empty, or ending with ``/``.
        endpoint: URL of a server that is not AWS; empty for AWS.
        region: Region; empty for what the environment says.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""


class S3Store:
    """Copies in one bucket, by boto3; credentials are those of the environment (AWS's standard chain)."""

    def __init__(self, place: S3Place) -> None:
        self._place = place
        self._client = _client(place)

    @property
    def address(self) -> str:
        """Return ``s3://<bucket>/<prefix>``."""
        return f"s3://{self._place.bucket}/{self._place.prefix}"

    def check(self) -> Protection:
        """Demand versioning and Object Lock of the bucket."""
        bucket = self._place.bucket
        versioning = self._call("get_bucket_versioning", Bucket=bucket).get("Status", "off")
        try:
            answer = self._call("get_object_lock_configuration", Bucket=bucket)
            lock = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled", "off")
        except NotFound:
            lock = "off"
        if (versioning, lock) != ("Enabled", "Enabled"):
            raise Invalid(
                "worm.unprotected",
                "the bucket does not protect what it takes",
                subject=self.address,
                expected="versioning and Object Lock enabled",
                got=f"versioning {versioning}, Object Lock {lock}",
                hint="make the bucket with Object Lock; it can be changed afterwards only by the provider",
            )
        return "compliance"

    def keep(self, item: Item) -> Kept:
        """Keep bytes as the first version of their key, locked in compliance mode."""
        try:
            version = self._put(item)
        except _Taken:
            version = self._first(item.name)
            data = self._fetch(item.name, version, len(item.data))
            if data != item.data:
                raise Integrity(
                    "worm.changed",
                    "the name holds other bytes: nothing was replaced",
                    subject=self.address + item.name,
                    expected=f"sha256:{item.digest.hex()}",
                    got=f"sha256:{hashlib.sha256(data).hexdigest()}"
                    if len(data) <= len(item.data)
                    else f"longer than {len(item.data)} bytes",
                    hint="somebody wrote into the bucket; `qcos worm verify` shows how far it goes",
                ) from None
            self._lengthen(item.name, version, item.retain_until)
        kept = Kept(item.name, item.digest, len(item.data), version, item.retain_until, "compliance")
        self._demand_lock(kept)
        return kept

    def lengthen(self, kept: Kept, until: dt.datetime) -> Kept:
        """Lock a copy's version until a later date, and read back that it is."""
        longer = replace(kept, retain_until=max(kept.retain_until, until))
        self._lengthen(kept.name, kept.version, longer.retain_until)
        self._demand_lock(longer)
        return longer

    def examine(self, kept: Kept, *, content: bool) -> list[Finding]:
        """Compare a copy with its version in the bucket, and look at what lies on top of it."""
        found = self._on_top(kept)
        if any(finding.code == "worm.missing" for finding in found):
            return found
        try:
            found += self._lock_findings(kept)
            if content and not any(finding.code == "worm.changed" for finding in found):
                found += self._content_findings(kept)
        except NotFound:
            found.append(_removed(kept))
        return found

    def read(self, name: str, version: str = "", limit: int = WORM_COPY_BYTES) -> bytes:
        """Return the bytes of a version; no more are fetched than may be."""
        data = self._fetch(name, version or self._first(name), limit)
        if len(data) > limit:
            raise self._no_copy(name, f"longer than {limit} bytes")
        return data

    def names(self) -> Iterator[str]:
        """Yield the names of all keys that ever were, hidden ones too."""
        seen: set[str] = set()
        for version in itertools.chain.from_iterable(self._pages("")):
            if version.name not in seen:
                seen.add(version.name)
                yield version.name

    def _fetch(self, name: str, version: str, limit: int) -> bytes:
        """Return a version's bytes; one byte more than ``limit`` when it is longer."""
        place = {"Bucket": self._place.bucket, "Key": self._place.prefix + name, "VersionId": version}
        try:
            answer = self._call("get_object", **place)
        except Unavailable as error:
            if (code := _code_of(error.__cause__)) in _CLOSED:
                raise self._no_copy(name, f"not readable: {code}") from None
            raise
        with _translated(self.address), contextlib.closing(answer["Body"]) as body:
            data: bytes = body.read(limit + 1)
            return data

    def _no_copy(self, name: str, got: str) -> Integrity:
        return Integrity(
            "worm.changed",
            "what lies at the name is no copy",
            subject=self.address + name,
            expected="a copy",
            got=got,
        )

    def _put(self, item: Item) -> str:
        answer = self._call(
            "put_object",
            Bucket=self._place.bucket,
            Key=self._place.prefix + item.name,
            Body=item.data,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=base64.b64encode(item.digest).decode(),
            IfNoneMatch="*",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=item.retain_until,
        )
        return str(answer.get("VersionId", ""))

    def _lengthen(self, name: str, version: str, wanted: dt.datetime) -> None:
        """Protect a copy that was there before for as long as it is needed now: a later checkpoint needs old tiles too."""
        place = {"Bucket": self._place.bucket, "Key": self._place.prefix + name, "VersionId": version}
        until = self._call("head_object", **place).get("ObjectLockRetainUntilDate")
        if until is None or until < wanted:
            retention = {"Mode": "COMPLIANCE", "RetainUntilDate": wanted}
            self._call("put_object_retention", **place, Retention=retention)

    def _demand_lock(self, kept: Kept) -> None:
        weak = [finding.message for finding in self._lock_findings(kept)]
        if weak:
            raise Integrity(
                "worm.unprotected",
                "the server took the copy and does not protect it",
                subject=self.address + kept.name,
                expected=f"compliance mode until {rfc3339(kept.retain_until)}",
                got="; ".join(weak),
            )

    def _first(self, name: str) -> str:
        """Return the oldest version of a name: the one we kept, whatever was put on top of it."""
        oldest = ""
        for version in self._versions_of(name):  # S3 lists the newest first
            if not version.marker:
                oldest = version.version
        if not oldest:
            raise NotFound("worm.missing", "there is no such copy", subject=self.address + name)
        return oldest

    def _on_top(self, kept: Kept) -> list[Finding]:
        """Return what was done to a copy, newest first; of very many attempts the newest."""
        found: list[Finding] = []
        there = False
        for version in self._versions_of(kept.name):
            at = rfc3339(version.at)
            if version.marker:
                found.append(
                    Finding(
                        "worm.deleted",
                        kept.name,
                        f"somebody tried to delete it on {at}; the copy remains below",
                    )
                )
            elif version.version == kept.version:
                there = True
            else:
                found.append(
                    Finding(
                        "worm.overwritten",
                        kept.name,
                        f"somebody wrote over it on {at}; the copy remains below",
                    )
                )
            if len(found) == WORM_ON_TOP:
                return found
        return found if there else [_removed(kept)]

    def _content_findings(self, kept: Kept) -> list[Finding]:
        try:
            data = self.read(kept.name, kept.version, kept.size)
        except Integrity as error:
            return [Finding(error.code, kept.name, error.got)]
        if hashlib.sha256(data).digest() == kept.digest:
            return []
        return [Finding("worm.changed", kept.name, "the bytes are not those that were kept")]

    def _lock_findings(self, kept: Kept) -> list[Finding]:
        head = self._call(
            "head_object",
            Bucket=self._place.bucket,
            Key=self._place.prefix + kept.name,
            VersionId=kept.version,
        )
        found = []
        mode, until = head.get("ObjectLockMode", "none"), head.get("ObjectLockRetainUntilDate")
        if mode != "COMPLIANCE":
            found.append(Finding("worm.unprotected", kept.name, f"its lock mode is {mode}"))
        if until is None or until < kept.retain_until - _SECOND:
            date = rfc3339(until) if until is not None else "none"
            found.append(
                Finding(
                    "worm.unprotected",
                    kept.name,
                    f"its retention date is {date}, not {rfc3339(kept.retain_until)}",
                )
            )
        if head.get("ContentLength") != kept.size:
            found.append(
                Finding(
                    "worm.changed", kept.name, f"{head.get('ContentLength')} bytes instead of {kept.size}"
                )
            )
        return found

    def _versions_of(self, name: str) -> Iterator[_Version]:
        """Yield one name's, newest first. Names that it begins are listed after it: of however many, one page at most is asked for."""
        for page in self._pages(name):
            yield from (version for version in page if version.name == name)
            if any(version.name != name for version in page):
                return

    def _pages(self, prefix: str) -> Iterator[list[_Version]]:
        with _translated(self.address):
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self._place.bucket, Prefix=self._place.prefix + prefix):
                yield [
                    _Version(
                        entry["Key"].removeprefix(self._place.prefix),
                        entry["VersionId"],
                        entry["LastModified"],
                        marker,
                    )
                    for kind, marker in (("Versions", False), ("DeleteMarkers", True))
                    for entry in page.get(kind, ())
                ]

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:  # Any: boto3's own
        with _translated(self.address):
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
            return answer


@dataclass(frozen=True, slots=True)
class _Version:
    name: str
    version: str
    at: dt.datetime
    marker: bool


def _removed(kept: Kept) -> Finding:
    return Finding("worm.missing", kept.name, f"version {kept.version} was removed")


class _Taken(Exception):
    """The key is there already."""


def open_bucket(text: str, endpoint: str = "", region: str = "") -> S3Store:
    """Return the store of ``s3://bucket/prefix``.

    Raises:
        Invalid: ``worm.address``, or ``worm.package`` when boto3 is not installed.
    """
    parts = urlsplit(text)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise Invalid(
            "worm.address", "not an address in S3", subject=text[:200], expected="s3://bucket/prefix"
        )
    prefix = parts.path.strip("/")
    return S3Store(S3Place(parts.netloc, f"{prefix}/" if prefix else "", endpoint, region))


def _client(place: S3Place) -> Any:  # Any: boto3 has no types
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise Invalid(
            "worm.package",
            "S3 needs a package that is not installed",
            expected="boto3",
            hint="pip install 'qcos[aws]'",
        ) from None
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": "path"} if place.endpoint else {},
    )
    return boto3.client(
        "s3", endpoint_url=place.endpoint or None, region_name=place.region or None, config=config
    )


def _code_of(error: object) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _translated(address: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = _code_of(error)
        if code in _TAKEN:
            raise _Taken from None
        if code in _GONE or code == "ObjectLockConfigurationNotFoundError":
            raise NotFound("worm.missing", "there is no such copy", subject=address, got=code) from None
        raise Unavailable(
            "worm.unavailable", "the object store refuses", subject=address, got=str(error)[:300]
        ) from error
    except BotoCoreError as error:
        raise Unavailable(
            "worm.unavailable", "the object store does not answer", subject=address, got=str(error)[:300]
        ) from error
