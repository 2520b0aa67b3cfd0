"""A scope belongs to one tenant: batches are split before they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

Item = TypeVar("Item")


def by_tenant(items: Iterable[Item], tenant_of: Callable[[Item], UUID]) -> dict[UUID, list[Item]]:
    """Return the items of each tenant, in their order."""
    groups: dict[UUID, list[Item]] = {}
    for item in items:
        groups.setdefault(tenant_of(item), []).append(item)
    return groups
