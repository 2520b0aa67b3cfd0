"""One JSON object a line, whatever is logged; no secrets in it (R7.1)."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid
from qcos.telemetry.logs import MAX_TEXT, JsonFormatter, blank_secrets

FORMATTER = JsonFormatter("qcos-test")


def _line(message: str, *arguments: object, **extra: object) -> dict[str, object]:
    logger = logging.Logger("qcos.here")
    record = logger.makeRecord(
        "qcos.here", logging.WARNING, "f.py", 1, message, arguments, None, extra=extra or None
    )
    text = FORMATTER.format(record)
    assert "\n" not in text
    return json.loads(text)


def test_the_members_of_a_line() -> None:
    line = _line("job %s ended", "j1", job="j1", shots=100, backends=["a", "b"])
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "qcos.here",
        "message": "job j1 ended",
        "service": "qcos-test",
        "job": "j1",
        "shots": 100,
        "backends": ["a", "b"],
    }


def test_an_extra_cannot_replace_a_member() -> None:
    assert _line("true", service="forged", level="debug")["service"] == "qcos-test"


@given(
    st.text(),
    st.dictionaries(st.text(min_size=1).map(lambda t: "x" + t), st.text() | st.integers() | st.binary()),
)
def test_any_text_gives_one_line(text: str, extra: dict[str, object]) -> None:
    assert _line(text.replace("%", "%%") if text else "-", **extra)["level"] == "warning"


def test_arguments_that_do_not_fit_are_told_not_raised() -> None:
    assert "do not fit" in str(_line("%d jobs", "many")["message"])


def test_values_that_json_does_not_know() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    line = _line("odd", a={1: object}, b={("tuple",): 1}, c=Broken(), d=float("nan"))
    assert line["b"] == {}
    assert line["c"] == "<Broken>"


def test_an_error_is_written_with_its_code_and_stack() -> None:
    try:
        raise Invalid("circuit.syntax", "not OpenQASM", hint="look at line 3")
    except Invalid:
        record = logging.LogRecord("n", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    line = json.loads(FORMATTER.format(record))
    assert line["error"]["type"] == "Invalid"
    assert line["error"]["code"] == "circuit.syntax"
    assert "test_logs.py" in line["error"]["stack"]


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("token qcos_" + "aB3_-" * 9 + " used", "token qcos_*** used"),
        ("postgresql+psycopg://qcos_app:p4ss@db:5432/qcos", "postgresql+psycopg://qcos_app:***@db:5432/qcos"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("http://127.0.0.1:4318/v1 for a@b", "http://127.0.0.1:4318/v1 for a@b"),
        ("qcos_app is a role, qcos_jobs a table", "qcos_app is a role, qcos_jobs a table"),
    ],
)
def test_secrets_are_blanked(text: str, blank: str) -> None:
    assert blank_secrets(text) == blank
    assert _line("see %s", text, where=[text])["message"] == f"see {blank}"
    assert _line("see", where=[text])["where"] == [blank]


def test_long_texts_are_cut() -> None:
    assert len(str(_line("x" * 10 * MAX_TEXT)["message"])) == MAX_TEXT + 3
