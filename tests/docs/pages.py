"""The project's pages: where they are, their links, their fenced examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A fenced block: its page, its language, the other words of its fence, its text."""

    page: Path
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        return f"{name(self.page)}: {self.text[:60]!r}"


def name(page: Path) -> str:
    """Return a page's path from the root."""
    return str(page.relative_to(ROOT))


def page(path: str) -> Path:
    """Return a page by its path from the root."""
    return ROOT / path


def examples(*pages: Path, language: str = "", run: str = "") -> list[Example]:
    """Return the fenced blocks of pages, in order."""
    found = []
    for path in pages or PAGES:
        for info, text in _FENCE.findall(path.read_text("utf-8")):
            words = info.split()
            example = Example(path, words[0] if words else "", tuple(words[1:]), text)
            if language in ("", example.language) and (not run or f"run={run}" in example.words):
                found.append(example)
    return found


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made by the usual Markdown hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: Path, heading: str = "") -> list[list[str]]:
    """Return the rows of all tables below a heading (to the next one of its level), without head rows; cells as they are written."""
    text = page.read_text("utf-8")
    if heading:
        level = heading.split()[0]
        start = text.index(f"\n{heading}\n")
        end = text.find(f"\n{level} ", start + 2)
        text = text[start : end if end >= 0 else None]
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    heads = {n - 1 for n, row in enumerate(cells) if all(set(cell) <= set("-: ") for cell in row)}
    return [row for n, row in enumerate(cells) if n not in heads and n - 1 not in heads]
