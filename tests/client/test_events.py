"""Server-sent events, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Limit
from qcos.client.events import Decoder, Event

STREAM = (
    "\ufeff: a comment\r\n"
    'event: step\r\nid: 1\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    "data:no space\ndata\n\nevent: nothing\n\n"
    "id: 7\rdata: \u2028é\r\revent: end\ndata: {}\n\ndata: unfinished\n"
).encode()
EVENTS = [
    Event("step", '{"a":\n1}', "1"),
    Event("message", "no space\n", "1"),
    Event("message", "\u2028é", "7"),
    Event("end", "{}", "7"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_chunks_may_be_cut_anywhere(cuts: list[int]) -> None:
    """WHATWG HTML 9.2.6: three kinds of line ends, comments, a byte order mark; no data is no event."""
    bounds = [0, *sorted(cuts), len(STREAM)]
    decoder = Decoder()
    found = [event for start, end in itertools.pairwise(bounds) for event in decoder.feed(STREAM[start:end])]
    assert found == EVENTS


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    whole = Decoder().feed(data)
    decoder = Decoder()
    assert [event for byte in data for event in decoder.feed(bytes([byte]))] == whole


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: 12345678\n" * 20])
def test_an_endless_event_is_refused(data: bytes) -> None:
    with pytest.raises(Limit):
        Decoder(limit=100).feed(data)
