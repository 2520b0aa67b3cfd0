"""Links resolve, examples can be read, commands exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from qcos.cli import reference

from .pages import PAGES, ROOT, Example, anchors, examples, links, name, page, prose

README = page("README.md")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_resolve(path: Path) -> None:
    broken = []
    for link in links(path):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [README]
    while todo:
        path = todo.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.suffix == ".md":
            todo += [
                (path.parent / link.partition("#")[0]).resolve()
                for link in links(path)
                if not link.startswith(("http", "#"))
            ]
    assert [name(path) for path in PAGES if path not in reached] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    first = examples(README)[0]
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]
    assert README.read_text().index("make demo") < 60


def test_targets_that_pages_name_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        (name(path), target)
        for path in PAGES
        for text in [*re.findall(r"`(make [^`]+)`", prose(path)), *(e.text for e in examples(path))]
        for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"demo", "test", "check", "bench", "docs", "install", "serve", "locks"} <= {t for _, t in named}
    assert {(where, target) for where, target in named if target not in targets} == set()


def test_the_readme_keeps_a_place_for_measured_figures() -> None:
    text = README.read_text()
    (table,) = re.findall(r"<!-- figures -->\n(.*?)<!-- /figures -->", text, re.DOTALL)
    assert "|" in table
    assert "make bench" in text


@pytest.mark.parametrize("example", examples(language="python"), ids=lambda e: e.where)
def test_python_examples_compile(example: Example) -> None:
    assert compile(example.text, example.where, "exec").co_names, "an example does something"


@pytest.mark.parametrize("example", examples(language="json"), ids=lambda e: e.where)
def test_json_examples_are_json(example: Example) -> None:
    assert isinstance(json.loads(example.text), dict | list), example.where


def test_commands_in_examples_exist_with_their_options() -> None:
    """Every ``qcos`` call on any page: the command is there and knows the options."""
    known = {entry.path: entry for entry in reference.entries()}
    calls = []
    for example in examples(language="sh"):
        lines = example.text.replace("\\\n", " ").splitlines()
        calls += [(example, words) for line in lines for words in [_call(line)] if words]
    for path in PAGES:
        inline = re.findall(r"`(qcos [a-z]+[^`]*)`", path.read_text())
        calls += [(Example(path, "", (), line), _call(line)) for line in inline]
    assert len(calls) > 30
    for example, words in calls:
        entry = known.get(" ".join(words[1:3])) or known.get(words[1])
        assert entry or any(path.startswith(words[1] + " ") for path in known), example.where
        if entry:
            options = {option for parameter in entry.command.params for option in parameter.opts}
            used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= options | {"--help", "--json"}, example.where


def _call(line: str) -> list[str]:
    """Return the words of a ``qcos`` call, without the variables set before it."""
    words = shlex.split(line.strip().removeprefix("$ "), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words if words[:1] == ["qcos"] and len(words) > 1 else []
