"""The loopback server and a client that notes its pauses instead of making them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from qcos.client import Client

from .wire import Wire, serving


@dataclass
class Time:
    """Time that passes only when somebody sleeps."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as made:
        yield made


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(wire: Wire, time: Time) -> Iterator[Client]:
    with Client(wire.url, "qcos_secret", sleep=time.sleep, clock=time.clock) as made:
        yield made
