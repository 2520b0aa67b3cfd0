"""Which drivers there are: entry points of the group ``qcos.drivers``. Listing them imports none."""

from __future__ import annotations

import importlib.util
from importlib.metadata import EntryPoint, entry_points

from qcos.base.errors import Conflict, NotFound, Unavailable
from qcos.drivers.contract import Driver

GROUP = "qcos.drivers"


def names() -> tuple[str, ...]:
    """Return the names of all registered drivers, sorted; nothing is imported.

    A name here says that a package offers the driver, not that the vendor's SDK is installed: `load` finds
    out.
    """
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def load(name: str) -> Driver:
    """Make a driver, without loading its SDK.

    Raises:
        NotFound: ``driver.unknown``.
        Conflict: ``driver.twice`` when two packages offer the name.
        Unavailable: ``driver.not_installed`` with what to install; ``driver.broken`` when the entry point
            gives no driver.
    """
    point = _point(name)
    try:
        make = point.load()
    except ImportError as error:
        raise _not_installed(name, str(error), f"qcos[{name}]") from error
    except AttributeError as error:
        raise Unavailable(
            "driver.broken", "the entry point names nothing", subject=name, got=str(error)
        ) from error
    missing = [module for module in getattr(make, "requires", ()) if importlib.util.find_spec(module) is None]
    if missing:
        raise _not_installed(name, ", ".join(missing), str(getattr(make, "extra", f"qcos[{name}]")))
    driver = make()
    if not isinstance(driver, Driver):
        raise Unavailable(
            "driver.broken", "the entry point gives no driver", subject=name, got=type(driver).__name__
        )
    return driver


def load_installed() -> dict[str, Driver]:
    """Make every driver whose SDK is installed, by name."""
    made: dict[str, Driver] = {}
    for name in names():
        try:
            made[name] = load(name)
        except Unavailable as error:
            if error.code != "driver.not_installed":
                raise
    return made


def _point(name: str) -> EntryPoint:
    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        known = ", ".join(names()) or "none"
        raise NotFound("driver.unknown", "there is no such driver", subject=name, expected=known)
    if len({point.value for point in points}) > 1:
        offers = ", ".join(sorted(point.value for point in points))
        raise Conflict("driver.twice", "two packages offer this driver", subject=name, got=offers)
    return points[0]


def _not_installed(name: str, missing: str, extra: str) -> Unavailable:
    return Unavailable(
        "driver.not_installed",
        f"the driver {name} needs software that is not installed",
        subject=name,
        got=f"missing: {missing}",
        hint=f"pip install '{extra}'",
    )
