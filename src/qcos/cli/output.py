"""What commands write: one JSON value a line for programs, tables and charts for people, errors with their
exit code.

Text that came from a server is never read as markup, and its control characters are made visible, so that a
job's name cannot redraw somebody's terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qcos.base.errors import QcosError

FAILED_CHECK = 1
ERASED = 7  # a bundle whose payload was erased, and that is proved; neither verified nor false
INTERNAL = 70  # sysexits.h EX_SOFTWARE
INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
EXIT_CODES = {
    "invalid": 2,
    "denied": 3,
    "not_found": 4,
    "conflict": 5,
    "limit": 5,
    "unavailable": 6,
    "driver": 6,
    "integrity": FAILED_CHECK,
}
EXIT_CODES_OF_CODE = {
    "trust.fork": 8,
    "trust.gap": 9,
    "trust.rollback": 10,
    "trust.revoked_signer": 11,
}
"""Errors that a program tells apart by the exit code alone; they go before their families."""
_PIPE_WIDTH = 200  # columns of a table that goes to a file or a pipe
_BAR_WIDTH = 40  # columns of the longest bar
_CHART_ROWS = 32  # outcomes shown one by one
_MICRO = Decimal(1_000_000)


class ReaderGone(Exception):
    """Whoever read what is written went away (``| head``)."""


class _People(Console):
    def on_broken_pipe(self) -> None:
        raise ReaderGone


def write(text: str) -> None:
    """Write text to standard output, at once."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def write_json(value: Any) -> None:  # Any: a JSON value
    """Write one JSON value on one line of standard output, at once."""
    write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def emit(value: Any, as_json: bool, view: Callable[[Console], None]) -> None:  # Any: a JSON value
    """Write a value for programs, or its view for people."""
    if as_json:
        write_json(value)
    else:
        view(people())


def people(stream: IO[str] | None = None) -> Console:
    """Return a console for people on a stream, standard output unless told otherwise."""
    file = stream or sys.stdout
    width = None if file.isatty() else _PIPE_WIDTH
    return _People(file=file, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def plain(value: object) -> str:
    """Return a value as text without control characters, safe for a terminal."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def styled(value: object, style: str = "") -> Text:
    """Return safe text with a style."""
    return Text(plain(value), style=style)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """Return a table; columns named in `right` hold numbers. Values may be `Text` already styled."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else styled(cell) for cell in row))
    return made


def members(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values beneath each other; empty values are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            made.add_row(name, value if isinstance(value, Text) else styled(value))
    return made


def money(micro: int | None, currency: str | None) -> str:
    """Return an amount in micro-units as exact decimal text: ``0.000123 USD``, ``5,000.00 USD``; a dash when
    there is none.
    """
    if micro is None:
        return "—"
    amount = Decimal(micro) / _MICRO
    text = f"{amount:,.6f}"
    while text.endswith("0") and text[-3] != ".":
        text = text[:-1]
    return f"{text} {currency or ''}".rstrip()


def amount_of(price: object) -> str:
    """Return a price, reservation or charge of the API as text; a dash when there is none."""
    if not isinstance(price, dict):
        return "—"
    micro = price.get("micro")
    if isinstance(micro, int):
        return money(micro, price.get("currency"))
    return plain(f"{price.get('amount', '—')} {price.get('currency') or ''}".rstrip())


def bars(counts: Mapping[str, int], *, rows: int = _CHART_ROWS, show: Callable[[int], str] = str) -> Table:
    """Return measurement outcomes as a bar chart, most frequent first, with the exact numbers; the rest is
    summed in a last row.
    """
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    longest = max((count for _, count in ordered), default=1) or 1
    made = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "right", "right"):
        made.add_column(justify=justify, no_wrap=True)
    for outcome, count in ordered[:rows]:
        made.add_row(
            styled(outcome),
            Text(_bar(count, longest), style="cyan"),
            show(count),
            f"{100 * count / total:.1f} %",
        )
    if rest := ordered[rows:]:
        hidden = sum(count for _, count in rest)
        made.add_row(styled(f"{len(rest)} more"), "", show(hidden), f"{100 * hidden / total:.1f} %")
    return made


def _bar(count: int, longest: int) -> str:
    eighths = max(1 if count else 0, round(8 * _BAR_WIDTH * count / longest))
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else "▏▎▍▌▋▊▉"[eighths % 8 - 1])


def write_error(error: QcosError, as_json: bool) -> int:
    """Write an error to standard error and return its exit code."""
    if as_json:
        sys.stderr.write(
            json.dumps(error.as_dict(), ensure_ascii=False, separators=(",", ":"), default=str) + "\n"
        )
    else:
        console = people(sys.stderr)
        console.print(Text.assemble(("Error: ", "bold red"), plain(error.message)))
        console.print(members(_error_lines(error)))
    return EXIT_CODES_OF_CODE.get(error.code, EXIT_CODES.get(error.family, INTERNAL))


def _error_lines(error: QcosError) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = [
        ("code", error.code),
        ("object", error.subject),
        ("expected", error.expected),
        ("got", error.got),
    ]
    for problem in error.problems:
        parts = [problem.message]
        parts += [f"expected {problem.expected}"] if problem.expected else []
        parts += [f"got {problem.got}"] if problem.got else []
        parts += [f"hint: {problem.hint}"] if problem.hint else []
        lines.append((problem.pointer or "/", "; ".join(parts)))
    decision = error.details.get("decision")
    if isinstance(decision, dict):
        lines += reasons(decision)
    lines.append(("hint", error.hint))
    return lines


def reasons(decision: dict[str, Any]) -> list[tuple[str, object]]:  # Any: JSON of a decision
    """Return the lines that say why: each reason of a denial, each backend that a policy excluded."""
    because = [_reason(reason) for reason in decision.get("reasons") or []]
    excluded = [_reason(reason) for reason in decision.get("excluded") or []]
    return [
        ("decision", decision.get("decision_id")),
        *(("because", text) for text in because),
        *(("excluded", text) for text in excluded if text not in because),
    ]


def _reason(reason: dict[str, Any]) -> str:  # Any: JSON of a reason
    where = f"{reason['backend']}: " if reason.get("backend") else ""
    hint = f" ({reason['hint']})" if reason.get("hint") else ""
    return f"{where}{reason.get('message', '')} [{reason.get('code', '')}]{hint}"
