"""The choice: the best-scored of the backends that can and may run a job (R8.4, R12.1)."""

from __future__ import annotations

from collections.abc import Sequence

from qcos.base.errors import Invalid
from qcos.routing.model import Dropped, Option, Placement, Weights
from qcos.routing.score import score


def choose(
    candidates: Sequence[Option], dropped: Sequence[Dropped] = (), weights: Weights | None = None
) -> Placement:
    """Return where a job goes. The same candidates give the same placement, in whatever order they come.

    Args:
        candidates: Backends that can run the job and that policy permits, with their prices.
        dropped: All others with their reasons; kept in the placement.
        weights: How much cost, queue and history count; one half, three tenths, one fifth by default.

    Raises:
        Invalid: ``routing.none`` when there is no candidate, with the reasons; ``routing.twice`` when a
            backend stands among the candidates twice, or also among the dropped.
    """
    weights = weights or Weights()
    losers = tuple(sorted(dropped, key=lambda d: (d.backend, d.code, d.message)))
    if not candidates:
        raise Invalid(
            "routing.none",
            "no backend can run the job",
            details={
                "dropped": [{"backend": d.backend, "code": d.code, "message": d.message} for d in losers]
            },
            hint="ask for less, allow more providers, or see which backends are online",
        )
    names = [option.name for option in candidates]
    if twice := sorted({n for n in names if names.count(n) > 1} | ({d.backend for d in losers} & set(names))):
        raise Invalid("routing.twice", "a backend stands twice in one choice", subject=", ".join(twice))
    scores = score(candidates, weights)
    winner = next(option.status.backend for option in candidates if option.name == scores[0].backend)
    return Placement(winner.name, winner.provider, scores, losers, weights)
