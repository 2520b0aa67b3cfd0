"""The states of a job and the only ways between them.

::

    (request) --> denied
        |
        v
      queued --> submitting --> running --> collected --> completed
        |            |  |          |            |              ^
        |            |  +----------|------------|--------------+  a short run on this machine
        |            +------+------+------------+--> failed
        +------------+------+-----> cancelled

Every change of state is a compare-and-set on the job's row (state, and from `SUBMITTING` on the attempt), so that two workers that hold
the same task cannot both go on: the later one finds the row changed and stops.
"""

from __future__ import annotations

from typing import Final

DENIED: Final = "denied"
QUEUED: Final = "queued"
SUBMITTING: Final = "submitting"  # the intent to submit is written; the vendor may or may not have the job
RUNNING: Final = "running"  # the vendor has it, under the handle in the row
COLLECTED: Final = "collected"  # the result is ours; nothing can be lost any more
COMPLETED: Final = "completed"  # sealed and settled
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    QUEUED: frozenset({SUBMITTING, CANCELLED, FAILED}),
    SUBMITTING: frozenset({SUBMITTING, RUNNING, COLLECTED, COMPLETED, FAILED, CANCELLED}),
    RUNNING: frozenset({SUBMITTING, RUNNING, COLLECTED, FAILED, CANCELLED}),
    COLLECTED: frozenset({COLLECTED, COMPLETED, FAILED}),
    DENIED: frozenset(),
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}
STATES: Final = tuple(TRANSITIONS)
TERMINAL: Final = frozenset(state for state, after in TRANSITIONS.items() if not after)
UNFINISHED: Final = frozenset(TRANSITIONS) - TERMINAL

# Workflow A (white paper 4.1) in its ten steps; a job's record of what happened uses these names and numbers.
STEPS: Final[dict[str, int]] = {
    "authenticated": 1,
    "submitted": 2,
    "decided": 3,
    "placed": 4,
    "executing": 5,
    "collected": 6,
    "evidenced": 7,
    "recorded": 8,
    "charged": 9,
    "exported": 10,
    "failed": 90,
    "cancelled": 91,
}
