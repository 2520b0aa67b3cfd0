"""Canonical bytes (RFC 8785) and digests.

Used only where a *hash of a JSON value* is needed; signatures are over exact bytes (DSSE). Money and other
large integers are kept inside ±(2^53-1), the range RFC 8785 can carry.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NoReturn

import rfc8785

from qcos.base.errors import Invalid
from qcos.base.limits import MAX_JSON_DEPTH


def canonical(value: Any) -> bytes:  # Any: any JSON value
    """Return the RFC 8785 bytes of a JSON value.

    Raises:
        Invalid: ``json.number`` for a number it cannot carry: not finite, or an integer outside ±(2^53-1).
    """
    if _is_plain(value):  # ten times faster, and the same bytes
        return _PLAIN.encode(value).encode()
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise Invalid(
            "json.number",
            f"cannot be made canonical: {error}",
            expected="finite numbers, integers within ±(2^53-1)",
        ) from None


_PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
_MOST = 2**53 - 1


def _is_plain(value: object) -> bool:
    """Return whether a value has no part that RFC 8785 writes otherwise than Python: floats, text beyond ASCII, large integers."""
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, int):  # and bool
        return -_MOST <= value <= _MOST
    if isinstance(value, dict):
        return all(isinstance(k, str) and k.isascii() and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None


def digest(data: bytes) -> str:
    """Return ``sha256:<hex>`` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:  # Any: any JSON value
    """Return ``sha256:<hex>`` of the canonical bytes of a JSON value."""
    return digest(canonical(value))


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def loads_strict(
    data: bytes | str, *, subject: str = "document", halves: bool = False
) -> Any:  # Any: any JSON value
    """Parse JSON, refusing duplicate names, NaN, deep nesting and halves of characters.

    A half of a character (an unpaired surrogate) is no text (RFC 8785, 3.2.2.2): neither can it be hashed nor
    shown, so whoever prints or stores what was read would fail later, and elsewhere.

    Args:
        data: The document.
        subject: What it is, for the error.
        halves: Let halves of characters pass: for a caller who says where they stand.

    Raises:
        Invalid: ``json.syntax``, ``json.duplicate`` or ``json.depth``.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        text.encode("utf-8")
    except UnicodeError as error:
        where = getattr(error, "start", 0)
        kind = "byte" if isinstance(data, bytes) else "character"
        raise Invalid("json.syntax", "not UTF-8 text", subject=subject, got=f"{kind} {where}") from None
    _check_depth(text, subject)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in items:
            if key in out:
                raise Invalid("json.duplicate", f"the member {key!r} stands twice", subject=subject)
            out[key] = value
        return out

    def constant(name: str) -> NoReturn:
        raise Invalid("json.syntax", f"{name} is not JSON", subject=subject)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        if not halves and _HALF.search(text):  # pairs of halves are well and good
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise Invalid(
            "json.syntax",
            f"not JSON: {error}"[:300],
            subject=subject,
            hint="check the document with a JSON linter",
        ) from None


def _check_depth(text: str, subject: str) -> None:
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:
        return
    depth = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise Invalid(
                    "json.depth",
                    "nested too deeply",
                    subject=subject,
                    expected=f"at most {MAX_JSON_DEPTH} levels",
                )
        elif char in "]}":
            depth -= 1
