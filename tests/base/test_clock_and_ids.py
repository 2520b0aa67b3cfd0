"""Instants and ids as texts."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.clock import now, parse_rfc3339, rfc3339
from qcos.base.ids import new_id


@given(st.datetimes(dt.datetime(1000, 1, 2), dt.datetime(9999, 12, 30), timezones=st.timezones()))
def test_an_instant_survives_its_text(instant: dt.datetime) -> None:
    text = rfc3339(instant)
    assert parse_rfc3339(text) == instant.astimezone(dt.UTC)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", text)


def test_a_text_without_a_zone_is_no_instant() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse_rfc3339("2026-01-09T10:30:00")


def test_now_is_utc() -> None:
    assert now().tzinfo is dt.UTC


def test_ids_are_dated_and_different() -> None:
    ids = {new_id("job") for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(re.fullmatch(r"job-\d{4}-\d\d-\d\d-[0-9a-f]{16}", text) for text in ids)
