"""What the operator says of where backends stand, over what their driver says.

A driver cannot know in whose house and under whose law it runs; whoever runs the installation does, and answers for it (R3.4). What is
declared is what policies, placement and evidence see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qcos.backends.model import Backend


@dataclass(frozen=True, slots=True)
class Declared:
    """Where a backend stands, by the operator; None leaves what the driver says. As the members of `Backend`."""

    region: str | None = None
    zone: str | None = None
    on_premise: bool | None = None


def declare(backend: Backend, places: Mapping[str, Declared]) -> Backend:
    """Return a backend with what was declared of its driver, and over that what was declared of itself.

    Raises:
        Invalid: ``backends.zone``.
    """
    for name in (backend.driver, backend.name):
        if (said := places.get(name)) is not None:
            backend = replace(
                backend,
                region=backend.region if said.region is None else said.region,
                zone=backend.zone if said.zone is None else said.zone,
                on_premise=backend.on_premise if said.on_premise is None else said.on_premise,
            )
    return backend
