"""When something may be erased: late rather than early, and not at all by a clock that nobody can believe (R4.3)."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Conflict
from qcos.base.limits import CLOCK_STEP_DAYS, ERASURE_GRACE_DAYS
from qcos.retention.decide import check_clock, check_confirmation, due_before, rule_of

AT = dt.datetime(2033, 1, 9, 12, tzinfo=dt.UTC)
_LEAPS = st.timedeltas(dt.timedelta(days=-4000), dt.timedelta(days=4000))


@given(_LEAPS)
def test_a_clock_that_is_believed_erases_nothing_before_its_time(ahead: dt.timedelta) -> None:
    """However far it is ahead: either it is not believed, or what it calls due is due by the true time too."""
    true = AT
    try:
        check_clock(true, true + ahead)
    except Conflict as refused:
        assert refused.code == "erasure.clock"
        assert ahead > dt.timedelta(days=CLOCK_STEP_DAYS)
    else:
        assert due_before(true + ahead) <= true


def test_nothing_is_due_at_the_beginning_of_time() -> None:
    """Who asks what was due then gets an answer."""
    first = dt.datetime.min.replace(tzinfo=dt.UTC)
    assert due_before(first) == due_before(first + dt.timedelta(days=1)) == first


def test_the_grace_covers_the_step() -> None:
    """Were it shorter, a jump that is believed would erase something early."""
    assert ERASURE_GRACE_DAYS >= CLOCK_STEP_DAYS


@pytest.mark.parametrize(
    ("said", "believed"),
    [(dt.date(2033, 1, d), d in (8, 9, 10)) for d in range(6, 13)] + [(dt.date(2034, 1, 9), False)],
)
def test_somebody_has_to_know_what_day_it_is(said: dt.date, believed: bool) -> None:
    """A day more or less is a matter of time zones."""
    if believed:
        check_confirmation(said, AT)
        return
    with pytest.raises(Conflict):
        check_confirmation(said, AT)


def test_rules_are_said_as_people_say_them() -> None:
    assert (rule_of(1), rule_of(2555)) == ("retention 1 day", "retention 2555 days")
