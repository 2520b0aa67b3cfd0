"""Authorities in their order: the first that can stamps; a dead one costs little."""

from __future__ import annotations

import itertools

import pytest

from qcos.timestamp.authority import NoTime
from qcos.timestamp.fallback import LONGEST_PAUSE_S, Authorities


class Moody:
    """An authority that stamps or not, as a test wants, and counts."""

    def __init__(self, token: bytes) -> None:
        self.token, self.works, self.asked = token, True, 0

    def stamp_digest(self, digest: bytes, hash_name: str = "sha512") -> bytes:
        self.asked += 1
        if not self.works:
            raise NoTime("timestamp.remote", "no answer", got="silence")
        return self.token + digest


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def _three() -> tuple[list[Moody], Clock, Authorities]:
    made, clock = [Moody(b"a"), Moody(b"b"), Moody(b"c")], Clock()
    named = list(zip(("http://a", "http://b", "local"), made, strict=True))
    return made, clock, Authorities(named, monotonic=clock)


def test_the_first_that_works_stamps() -> None:
    (first, second, third), _, authorities = _three()
    assert authorities.stamp_digest(b"1") == b"a1"
    first.works = False
    assert authorities.stamp_digest(b"2") == b"b2"
    second.works = False
    assert authorities.stamp_digest(b"3") == b"c3"
    assert (first.asked, second.asked, third.asked) == (2, 2, 1)


def test_a_dead_authority_is_left_alone_longer_and_longer() -> None:
    (first, _, _), clock, authorities = _three()
    first.works = False
    for _ in range(200):
        authorities.stamp_digest(b"")
    assert first.asked == 1
    asked = []
    for second in range(600):
        clock.at = float(second)
        before = first.asked
        authorities.stamp_digest(b"")
        if first.asked > before:
            asked.append(second)
    pauses = [late - early for early, late in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert max(pauses) <= LONGEST_PAUSE_S
    assert len(asked) < 20


def test_it_is_preferred_again_once_it_works() -> None:
    (first, _, _), clock, authorities = _three()
    first.works = False
    authorities.stamp_digest(b"")
    first.works = True
    assert authorities.stamp_digest(b"1") == b"b1"
    clock.at += 2
    assert authorities.stamp_digest(b"2") == b"a2"
    assert authorities.stamp_digest(b"3") == b"a3"


def test_when_none_works_each_says_why() -> None:
    made, clock, authorities = _three()
    for one in made:
        one.works = False
    for _ in range(2):  # the second time none is asked, and the reasons are still told
        with pytest.raises(NoTime) as refused:
            authorities.stamp_digest(b"")
        assert refused.value.code == "timestamp.unavailable"
        assert [problem.pointer for problem in refused.value.problems] == ["http://a", "http://b", "local"]
        assert all(problem.got == "silence" for problem in refused.value.problems)
    assert [one.asked for one in made] == [1, 1, 1]
    clock.at += 1
    made[2].works = True
    assert authorities.stamp_digest(b"9") == b"c9"
