"""Any JSON answer of the API as members and tables: a listing shows the columns it knows, members added later
included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from qcos.cli.output import amount_of, members, money, plain, table
from qcos.client.model import Json

Cell = Callable[[Json], object]
Column = tuple[str, Cell]


def items_of(answer: Any) -> list[Json]:  # Any: a JSON value
    """Return the rows of a listing: the answer itself, or its member ``items``, or its only list."""
    if isinstance(answer, dict):
        lists = [value for value in answer.values() if isinstance(value, list)]
        answer = answer.get("items", lists[0] if len(lists) == 1 else [])
    return [item for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []


def show_items(
    console: Console, answer: Any, columns: Sequence[Column], *, right: Sequence[str] = ()
) -> None:  # Any: JSON
    """Print a listing as a table, and how to get the next page."""
    console.print(
        table(
            [name for name, _ in columns],
            [[cell(item) for _, cell in columns] for item in items_of(answer)],
            right=right,
        )
    )
    if isinstance(answer, dict) and (cursor := answer.get("next")):
        console.print(Text(f"more: --after {plain(cursor)}", style="dim"))


def show_object(console: Console, value: Json) -> None:
    """Print an object: plain members first, then objects indented, then each list of objects as a table."""
    console.print(members((name, _leaf(item)) for name, item in value.items() if not _is_table(item)))
    for name, item in value.items():
        if _is_table(item):
            headings = list(dict.fromkeys(key for row in item for key in row))
            console.print(Text(plain(name), style="bold"))
            console.print(table(headings, [[_leaf(row.get(key)) for key in headings] for row in item]))


def of(*names: str) -> Cell:
    """Return what reads the first of these members that an item has."""
    return lambda item: next((_leaf(item[name]) for name in names if item.get(name) is not None), "—")


def amount(name: str) -> Cell:
    """Return what reads a member as money: an object, an integer of micro-units beside ``currency``, or
    decimal text.
    """

    def read(item: Json) -> object:
        value = item.get(name)
        if isinstance(value, dict):
            return amount_of(value)
        if isinstance(value, int):
            return money(value, item.get("currency"))
        return "—" if value is None else f"{plain(value)} {plain(item.get('currency'))}".rstrip()

    return read


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _leaf(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        if "micro" in value and "currency" in value:
            return amount_of(value)
        return ", ".join(f"{name}={_leaf(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_leaf(item) for item in value)
    return plain(value)
