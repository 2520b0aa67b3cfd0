"""Mutations of JSON documents, each with the words that say what it was; none is the document itself."""

from __future__ import annotations

import base64
import binascii
import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]
Mutation = tuple[str, Any]  # what was done; the changed document
JUNK = "@@twice@@"


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value that is no container, and empty containers, with their places."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for step, item in inner:
        found = True
        yield from leaves(item, (*path, step))
    if not found:
        yield path, value


def containers(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every object and list with its place, the whole first."""
    if isinstance(value, dict | list):
        yield path, value
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from containers(item, (*path, step))


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def put(document: Any, path: Path, value: Any) -> Any:
    """Return a copy with another value at a place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def same(one: Any, two: Any) -> bool:
    """Tell whether two JSON values are one, types included; the order of members is none."""
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def others(value: Any) -> list[Any]:
    """Return other values in place of one: of its type and of every other type."""
    odd: list[Any] = [None, True, 0, 1.5, 10**400, "", "\ud800", [], [value], {}]
    if isinstance(value, bool) or value is None:
        return odd
    if isinstance(value, int):
        return [value + 1, -value - 1, float(value), str(value), value + 2**64, *odd]
    if isinstance(value, str):
        near = [value + " ", value[:-1], value[1:], value + "=", value + "\0"]
        near += [value.swapcase(), value.replace("a", "\u0430", 1), value + "\u200b", value + "\n"]
        return [*near, *odd]
    return odd


def changed_leaves(document: Any) -> Iterator[Mutation]:
    """Yield every leaf changed to every other value."""
    for path, value in leaves(document):
        for other in others(value):
            if not same(other, value):
                yield f"{path} to {other!r:.60}", put(document, path, other)


def changed_members(document: Any) -> Iterator[Mutation]:
    """Yield every member and item removed, and an extra member in every object."""
    for path, container in containers(document):
        for step in container if isinstance(container, dict) else range(len(container)):
            without = copy.deepcopy(document)
            del at(without, path)[step]
            yield f"{(*path, step)} removed", without
        if isinstance(container, dict):
            for name, value in (("more", None), ("", ""), ("schema", 1), ("\ud800", {})):
                if name not in container:
                    yield f"{path} with {name!r}", put(document, path, {**container, name: value})


def changed_lists(document: Any) -> Iterator[Mutation]:
    """Yield every list with an item twice, two items exchanged, and turned round."""
    for path, container in containers(document):
        if not isinstance(container, list):
            continue
        for i, item in enumerate(container):
            yield f"{(*path, i)} twice", put(document, path, [*container[:i], item, *container[i:]])
        for i, j in itertools.combinations(range(len(container)), 2):
            swapped = list(container)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            if not same(swapped, container):
                yield f"{path} items {i} and {j} exchanged", put(document, path, swapped)


def doubled_members(document: Any) -> Iterator[tuple[str, str]]:
    """Yield texts in which one member stands twice: with its own value, and with another one in either order."""
    for path, container in containers(document):
        if not isinstance(container, dict):
            continue
        for name, value in container.items():
            for first, second in ((value, value), (None, value), (value, None)):
                items = {JUNK: first} if first is None else {}
                pairs = {**items, **put(container, (name,), second), **({} if items else {JUNK: first})}
                text = json.dumps(put(document, path, pairs)).replace(json.dumps(JUNK), json.dumps(name))
                yield f"{(*path, name)} twice in the text", text


def base64_leaves(document: Any) -> Iterator[tuple[Path, bytes]]:
    """Yield the places and bytes of leaves that are base64."""
    for path, value in leaves(document):
        if isinstance(value, str) and len(value) >= 40:
            try:
                yield path, base64.b64decode(value, validate=True)
            except (ValueError, binascii.Error):
                continue


def changed_bytes(data: bytes, count: int, chosen: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield bytes with one bit changed, at both ends and at ``count`` places spread over all; cut, and made longer."""
    step = max(1, len(data) // count)
    spread = (min(len(data) - 1, start + chosen.randrange(step)) for start in range(0, len(data), step))
    for place in sorted({*range(min(6, len(data))), *range(max(0, len(data) - 3), len(data)), *spread}):
        flipped = bytearray(data)
        flipped[place] ^= 1 << chosen.randrange(8)
        yield f"a bit of byte {place}", bytes(flipped)
    for size in {0, 1, len(data) // 2, len(data) - 1}:
        yield f"cut to {size}", data[:size]
    for more in (b"\0", b"\x05\x00", data):
        yield f"longer by {len(more)}", data + more
    yield "a zero before it", b"\0" + data


def changed_base64(
    document: Any, count: int, chosen: random.Random, in_step: Callable[[Any], Any]
) -> Iterator[Mutation]:
    """Yield documents whose base64 says other bytes; whatever repeats them is changed too."""
    for path, data in base64_leaves(document):
        for what, bad in changed_bytes(data, count, chosen):
            changed = put(document, path, base64.b64encode(bad).decode())
            yield f"{path}: {what}", in_step(changed)
