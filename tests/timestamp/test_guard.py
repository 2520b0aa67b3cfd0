"""The clock's guard: interval arithmetic, majority, jumps, silence (R1.2)."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Unavailable
from qcos.keys.model import Keyring
from qcos.timestamp.authority import LocalAuthority, NoTime
from qcos.timestamp.guard import ClockGuard, agree
from qcos.timestamp.request import request_for
from qcos.timestamp.sources import Reading

from .test_authority import DATA, _failure

TRUE = 1_800_000_000.0  # seconds since 1970 when the monotonic clock is at zero


class Clocks:
    """A wall clock and a monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.mono, self.error = 100.0, 0.0

    def wall(self) -> float:
        return TRUE + self.mono + self.error

    def monotonic(self) -> float:
        return self.mono


class Told:
    """A source that says what a test wants: the true time, off by so much, give or take."""

    def __init__(self, name: str, *, off: float = 0.0, within: float = 0.5) -> None:
        self.name, self.off, self.within, self.silent = name, off, within, False
        self.asked = threading.Event()

    def read(self) -> Reading:
        self.asked.set()
        if self.silent:
            raise Unavailable("test.silent", "no answer")
        return Reading(self.name, TRUE + self.off - self.within, TRUE + self.off + self.within)


def _guard(clocks: Clocks, *sources: Told, refuse: bool = False, every_s: float = 60) -> ClockGuard:
    return ClockGuard(
        sources,
        accuracy_s=1.0,
        every_s=every_s,
        patience_s=600,
        refuse=refuse,
        wall=clocks.wall,
        monotonic=clocks.monotonic,
    )


def _refusal(guard: ClockGuard) -> str:
    with pytest.raises(NoTime) as refused:
        guard.check()
    return refused.value.code


def test_a_clock_within_its_accuracy_may_name_the_time() -> None:
    clocks = Clocks()
    guard = _guard(clocks, Told("a"))
    clocks.error = 0.4
    guard.poll()
    guard.check()
    assert guard.status()["drift_ms"] == -400
    assert guard.status()["agreeing"] == 1


@pytest.mark.parametrize(("error", "refused"), [(1.4, False), (1.6, True), (-1.6, True), (3600, True)])
def test_it_is_wrong_for_certain_only_beyond_what_the_source_knows(error: float, refused: bool) -> None:
    """The source knows the time to half a second, tokens promise one: what is less than 1.5 s may be right."""
    clocks = Clocks()
    clocks.error = error
    guard = _guard(clocks, Told("a"))
    guard.poll()
    if refused:
        assert _refusal(guard) == "timestamp.drift"
    else:
        guard.check()


def test_drift_stops_the_authority_until_it_is_mended(keyring: Keyring) -> None:
    """R1.2: RFC 3161's timeNotAvailable over the wire, an error for local use; it recovers by itself."""
    clocks = Clocks()
    clocks.error = 5
    guard = _guard(clocks, Told("a"), Told("b"))
    guard.poll()
    authority = LocalAuthority(
        keyring.tsa_key,
        keyring.tsa_chain,
        guard=guard,
        clock=lambda: dt.datetime.fromtimestamp(clocks.wall(), dt.UTC),
    )
    assert _failure(authority.reply(request_for(DATA).encode())) == ("rejection", {"time_not_available"})
    with pytest.raises(NoTime) as refused:
        authority.stamp(DATA)
    assert refused.value.code == "timestamp.drift"
    assert "at least 4.500 s, by 2 sources" in refused.value.got
    clocks.error = 0
    with pytest.raises(NoTime) as refused:
        authority.stamp(DATA)
    assert refused.value.code == "timestamp.jump", "mended, but nobody has confirmed it yet"
    guard.poll()
    assert authority.stamp(DATA)


def test_a_jump_between_rounds_stops_it_at_once() -> None:
    clocks = Clocks()
    guard = _guard(clocks, Told("a", within=30))  # a source that would not notice
    guard.poll()
    guard.check()
    clocks.mono += 20
    guard.check()
    clocks.error = 1.1
    assert _refusal(guard) == "timestamp.jump"
    guard.poll()
    guard.check()


def test_one_liar_among_three_changes_nothing() -> None:
    clocks = Clocks()
    guard = _guard(clocks, Told("a"), Told("liar", off=100), Told("b", off=0.2))
    guard.poll()
    guard.check()
    clocks.error = 100
    guard.poll()
    assert _refusal(guard) == "timestamp.drift", "agreeing with the liar does not help"


@pytest.mark.parametrize("refuse", [True, False])
def test_sources_that_contradict_each_other_tell_nothing(refuse: bool) -> None:
    clocks = Clocks()
    guard = _guard(clocks, Told("a"), Told("b", off=50), refuse=refuse)
    guard.poll()
    assert guard.drift_s() is None
    if refuse:
        assert _refusal(guard) == "timestamp.unwatched"
    else:
        guard.check()


def test_silence_is_endured_for_a_while_then_as_configured() -> None:
    clocks = Clocks()
    strict_source, mild_source = Told("a"), Told("a")
    strict, mild = _guard(clocks, strict_source, refuse=True), _guard(clocks, mild_source)
    assert _refusal(strict) == "timestamp.unwatched", "nothing is known before the first round"
    mild.check()
    for guard, source in ((strict, strict_source), (mild, mild_source)):
        guard.poll()
        source.silent = True
        guard.poll()
        guard.check()
        assert "no answer" in guard.status()["sources"]["a"]
    clocks.mono += 601
    assert _refusal(strict) == "timestamp.unwatched"
    mild.check()


def test_a_clock_known_to_be_wrong_does_not_become_right_by_silence() -> None:
    clocks = Clocks()
    clocks.error = 10
    source = Told("a")
    guard = _guard(clocks, source)
    guard.poll()
    source.silent = True
    clocks.mono += 10_000
    guard.poll()
    assert _refusal(guard) == "timestamp.drift"


def test_a_source_that_knows_nothing_or_breaks_is_left_out() -> None:
    class Broken(Told):
        def read(self) -> Reading:
            raise RuntimeError("a bug")

    clocks = Clocks()
    guard = _guard(clocks, Told("vague", within=1e6), Broken("broken"), Told("a"))
    guard.poll()
    guard.check()
    assert guard.status()["agreeing"] == 1
    assert "a bug" in guard.status()["sources"]["broken"]
    assert "only" in guard.status()["sources"]["vague"]


def test_a_round_that_fails_ends_neither_the_thread_nor_every_token() -> None:
    """No thread to be had for the sources, say: the clock counts as unwatched, and is asked about again."""

    class Nameless(Told):
        broken = True

        @property
        def name(self) -> str:
            if self.broken:
                raise RuntimeError("can't start new thread")
            return "a"

        @name.setter
        def name(self, value: str) -> None:
            del value

    source = Nameless("a")
    guard = _guard(Clocks(), source, refuse=True, every_s=0.01)
    guard.start()
    checked: list[str] = []
    first = threading.Thread(target=lambda: checked.append(_refusal(guard)), daemon=True)
    first.start()
    first.join(120)
    assert checked == ["timestamp.unwatched"]
    Nameless.broken = False
    source.asked.clear()
    assert source.asked.wait(120)
    guard.stop()


def test_the_thread_asks_by_itself_and_at_once_after_a_jump() -> None:
    clocks = Clocks()
    source = Told("a")
    guard = _guard(clocks, source, every_s=3600)
    guard.start()
    try:
        guard.check()  # waits for the first round
        source.asked.clear()
        clocks.error = 2
        assert _refusal(guard) == "timestamp.jump"
        assert source.asked.wait(120), "not an hour later"
    finally:
        guard.stop()


readings = st.lists(
    st.builds(
        lambda middle, half: Reading("x", middle - half, middle + half),
        st.integers(-50, 50),
        st.integers(0, 20),
    ),
    max_size=8,
)


@given(readings)
def test_what_most_agree_on_is_the_most_crowded_interval(given_readings: list[Reading]) -> None:
    """Marzullo's algorithm against counting at every edge."""
    edges = [edge for reading in given_readings for edge in (reading.low, reading.high)]
    crowd = max((sum(r.low <= edge <= r.high for r in given_readings) for edge in edges), default=0)
    found = agree(given_readings)
    if 2 * crowd <= len(given_readings):
        assert found is None
    else:
        assert found is not None
        assert found.agreeing == crowd
        assert found.low <= found.high
        middle = (found.low + found.high) / 2
        assert sum(r.low <= middle <= r.high for r in given_readings) == crowd
