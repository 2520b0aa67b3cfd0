"""R4.2: no input crashes or hangs a verifier: each ends with a refusal, within memory and processor time that the kernel limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from .doors import REFUSALS, Door, doors
from .hostile import inputs

TESTS = Path(__file__).parents[1]
NAMES = 27  # doors; a list that lost some would prove less


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    return doors(tmp_path_factory.mktemp("doors"))


def test_every_hostile_input_is_refused_at_every_door(entered: dict[str, Door]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fuzz.hostile"],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split("\t") for line in run.stdout.splitlines()]
    assert run.returncode == 0, f"it ended at {lines[-1:]}: {run.stderr[-2000:]}"
    assert len(entered) == NAMES
    assert [(door, name) for door, name, _ in lines] == [
        (door, name) for name in inputs() for door in entered
    ]
    readers = {door for door, found in entered.items() if not found.verifies}
    assert [
        line for line in lines if line[2] != "refused" and not (line[2] == "taken" and line[0] in readers)
    ] == []
    assert {door for door, _, outcome in lines if outcome == "taken"} <= readers


def test_every_door_takes_its_example(entered: dict[str, Door]) -> None:
    """Mutations of what is refused anyway would prove nothing."""
    for name in ("bundle", "bundle as text", "erased bundle", "proof", "note", "note as text"):
        assert entered[name].enter(entered[name].example), name
    for name, door in entered.items():
        assert door.verifies or door.enter(door.example), name


@settings(max_examples=400, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_random_bytes_and_random_changes_raise_nothing_but_refusals(
    entered: dict[str, Door], data: st.DataObject
) -> None:
    door = entered[data.draw(st.sampled_from(sorted(entered)))]
    given_ = data.draw(st.binary(max_size=200))
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(door.example)))
        end = start + data.draw(st.sampled_from([0, 1, 2, 20, len(door.example)]))
        given_ = door.example[:start] + given_[: data.draw(st.integers(0, 8))] + door.example[end:]
    try:
        assert door.enter(given_) in (True, False)
    except REFUSALS as error:
        assert str(error)
