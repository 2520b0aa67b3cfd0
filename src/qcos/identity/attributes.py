"""Attributes of principals: JSON of the administrator's own making, within bounds (R11.5). Pure.

They travel in every policy input and every recorded decision, so they stay small and flat, hold only text that
the database can keep and numbers that canonical JSON carries exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcos.base.canonical import canonical
from qcos.base.errors import Invalid
from qcos.base.limits import MAX_ATTRIBUTES_BYTES, MAX_ATTRIBUTES_DEPTH


def check_attributes(attributes: Mapping[str, Any], principal: str) -> None:  # Any: JSON
    """Accept the attributes of a principal or say what is wrong with them.

    Raises:
        Invalid: ``principal.attributes`` when they are too deep, too large or hold text that cannot be kept;
            ``json.number`` for a number that canonical JSON cannot carry.
    """
    if _deeper(attributes, MAX_ATTRIBUTES_DEPTH):
        raise Invalid(
            "principal.attributes",
            "the attributes are nested too deeply",
            subject=principal,
            expected=f"at most {MAX_ATTRIBUTES_DEPTH} levels",
        )
    written = canonical(dict(attributes))
    if len(written) > MAX_ATTRIBUTES_BYTES:
        raise Invalid(
            "principal.attributes",
            "too many attributes",
            subject=principal,
            expected=f"at most {MAX_ATTRIBUTES_BYTES} bytes of JSON",
            got=f"{len(written)} bytes",
        )
    if b"\\u0000" in written:
        raise Invalid(
            "principal.attributes",
            "a text of the attributes has a NUL character",
            subject=principal,
            expected="text that the database can keep",
        )


def _deeper(value: object, levels: int) -> bool:
    """Tell whether a value has more than so many levels; looks no deeper than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)
