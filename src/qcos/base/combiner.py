"""Calls of many threads that arrive while one of them writes are written together, next, by one of those that wait.

As `qcos.base.batcher`, for callers that wait in a thread of their own: there is no thread between them, so a lone call is written at
once by its caller, and calls of different keys do not wait for each other. No timer: a batch is whatever came meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Place(Generic[Item, Result]):
    """A call's place in line; what it is told is its result, the error to raise, or (None) that it is its turn to write."""

    item: Item
    told: queue.SimpleQueue[Result | BaseException | None] = field(default_factory=queue.SimpleQueue)


class Combiner(Generic[Key, Item, Result]):
    """Turns many threads' calls of one item into few calls of many, in the order in which they came.

    Args:
        write: Takes a key and its items; returns for each, in order, its result or the error that its caller gets. When it raises,
            each caller of the batch gets that error.
        limit: Most items given to one call.
    """

    def __init__(
        self, write: Callable[[Key, Sequence[Item]], Sequence[Result | Exception]], *, limit: int
    ) -> None:
        self._write = write
        self._limit = limit
        self._lines: dict[Key, deque[_Place[Item, Result]]] = {}  # of keys for which somebody writes now
        self._lock = threading.Lock()

    def waiting(self, key: Key) -> int:
        """Return how many calls of a key wait for their turn."""
        with self._lock:
            return len(self._lines.get(key, ()))

    def call(self, key: Key, item: Item) -> Result:
        """Have an item written, and return its result, which is never None."""
        place: _Place[Item, Result] = _Place(item)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = deque()
            else:
                line.append(place)
        told = None if line is None else place.told.get()
        if told is None:
            told = self._write_first(key, place)
        if isinstance(told, BaseException):
            raise told
        return told

    def _write_first(self, key: Key, first: _Place[Item, Result]) -> Result | BaseException:
        """Write the batch at whose head this thread is; returns what its own caller is told."""
        with self._lock:
            line = self._lines[key]
            batch = [first, *(line.popleft() for _ in range(min(len(line), self._limit - 1)))]
        answers: Sequence[Result | BaseException]
        try:
            answers = self._write(key, [place.item for place in batch])
            if len(answers) != len(batch):  # written all the same, so not tried again
                answers = [RuntimeError(f"{len(answers)} results for {len(batch)} items")] * len(batch)
        except BaseException as error:  # whatever it is, those who wait must be told
            answers = [error] * len(batch)
        with self._lock:
            if line:
                line.popleft().told.put(None)
            else:
                del self._lines[key]
        for place, answer in zip(batch[1:], answers[1:], strict=True):
            place.told.put(answer)
        return answers[0]
