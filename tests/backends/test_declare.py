"""Where a backend stands is the operator's word (R3.4)."""

from __future__ import annotations

import pytest

from qcos.backends.declare import Declared, declare
from qcos.base.errors import Invalid
from qcos.drivers.registry import load_installed

IDEAL = next(b for b in load_installed()["aer"].describe() if b.name == "aer-ideal")


def test_nothing_is_sovereign_undeclared() -> None:
    assert declare(IDEAL, {}) == IDEAL
    assert IDEAL.zone == "local"


def test_a_backends_own_declaration_goes_over_its_drivers_and_each_member_stands_alone() -> None:
    places = {
        "aer": Declared(region="de-berlin", zone="sovereign"),
        "aer-ideal": Declared(zone="cloud", on_premise=False),
        "braket": Declared(region="elsewhere"),
    }
    declared = declare(IDEAL, places)
    assert (declared.region, declared.zone, declared.on_premise) == ("de-berlin", "cloud", False)
    assert declared.where() == IDEAL.where() | {"region": "de-berlin", "zone": "cloud", "on_premise": False}


def test_there_are_three_zones() -> None:
    with pytest.raises(Invalid) as caught:
        declare(IDEAL, {"aer": Declared(zone="moon")})
    assert caught.value.code == "backends.zone"
