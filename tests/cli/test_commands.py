"""The tree of commands: what every one of them promises."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qcos.cli import reference
from qcos.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROMISED = """
up worker whoami version login trust
job submit|show|list|watch|cancel|estimate|result|validate
evidence get|verify|export|renew|retention|due|erase|resume-erasing
ledger checkpoint|proof|verify|search|consistency|fsck|status|monitor
policy list|show|test|upload|activate|explain
hold place|release|list
anchor list|get|verify
budget list|set
quota list|set
usage show|charges
project list|create
principal list|create|disable|enable
role list|grant|revoke
token list|create|revoke
backend list
config show|set
tsa serve
worm bundle|copy|restore|status|verify
key list|rotate|revoke|request|certify
trust update|show
witness serve
"""


def promised() -> set[str]:
    singles, *groups = PROMISED.strip().splitlines()
    return set(singles.split()) | {
        f"{group} {name}" for group, names in (line.split() for line in groups) for name in names.split("|")
    }


def test_every_promised_command_is_there() -> None:
    assert {entry.path for entry in reference.entries()} == promised()


def test_every_command_writes_json_on_demand_and_says_what_it_does() -> None:
    for entry in reference.entries():
        options = {name for parameter in entry.command.params for name in parameter.opts}
        assert "--json" in options, entry.path
        assert entry.command.help, entry.path


def test_the_names_in_help_are_those_of_the_commands() -> None:
    """The lazy root tells names and help without importing a command: both must stay true."""
    loaded = {entry.path.split()[0] for entry in reference.entries()}
    assert loaded == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_every_group_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: qcos" in capsys.readouterr().out


def test_the_reference_is_that_of_the_commands() -> None:
    """docs/reference/cli.md is written by ``python -m qcos.cli.reference``."""
    assert (DOCS / "reference" / "cli.md").read_text() == reference.document()


def test_the_tutorial_uses_commands_and_options_that_exist() -> None:
    known = {entry.path: entry for entry in reference.entries()}
    lines = [line.strip() for line in (DOCS / "tutorials" / "first-job.md").read_text().splitlines()]
    calls = [
        shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ qcos ")
    ]
    assert len(calls) > 8
    for words in calls:
        entry = known.get(" ".join(words[1:3])) or known[words[1]]
        options = {
            name
            for parameter in entry.command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= options, words
