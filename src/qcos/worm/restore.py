"""Get copies back out of a WORM store, without a database: the ledger as a folder for `qcos ledger verify`, and the parts of a bundle."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcos.base.errors import Conflict, Integrity, NotFound
from qcos.base.limits import WORM_RENEWALS
from qcos.worm.model import Item, WormStore

_LEDGER: Final = "ledger/"
_CHECKPOINTS: Final = "ledger/checkpoints/"
_CHECKPOINT: Final = re.compile(re.escape(_CHECKPOINTS) + r"[0-9]{20}")
_TILE: Final = re.compile(  # C2SP tlog-tiles
    r"ledger/tile/(?:entries|[0-9]{1,2})/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[0-9]{1,3})?"
)
_FAR: Final = dt.datetime.max.replace(
    tzinfo=dt.UTC
)  # an item's name is checked before it is joined to a path


@dataclass(frozen=True, slots=True)
class Restored:
    """What came out.

    Attributes:
        files: How many.
        size: Bytes of all.
        entries: Of the newest checkpoint.
        refused: Names of the ledger's folder in the store that hold no file of it, with what they hold.
    """

    files: int
    size: int
    entries: int
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's copies: the bundle as it was stored, and its later time stamps in their order."""

    document: bytes
    renewals: tuple[bytes, ...]


def restore_bundle(store: WormStore, name: str) -> Bundle:
    """Read a bundle's copy, and those of its later time stamps up to the first that is missing.

    Raises:
        Invalid: ``worm.name``.
        NotFound: ``worm.missing``.
        Unavailable: ``worm.unavailable``.
    """
    document = store.read(Item(name, b"", _FAR).name)
    renewals: list[bytes] = []
    with contextlib.suppress(NotFound):
        while len(renewals) < WORM_RENEWALS:
            renewals.append(store.read(f"{name}.renewals/{len(renewals) + 1}"))
    return Bundle(document, tuple(renewals))


def restore(store: WormStore, folder: Path, progress: Callable[[int, int], None]) -> Restored:
    """Write the newest checkpoint that was kept, and all tiles, into a new folder.

    Args:
        store: The store.
        folder: Made; must not hold anything.
        progress: Called with files done and files in all.

    A name that holds no file of the ledger is refused, and the others go on, also with the newest checkpoint that can be read: whoever can
    add to the store could keep it from coming back otherwise. Nothing of what comes back is verified here; `qcos ledger fsck` does that.

    Raises:
        Conflict: ``worm.folder`` when the folder holds something.
        NotFound: ``worm.missing`` when the store holds no checkpoint.
        Unavailable: ``worm.unavailable``.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("worm.folder", "the folder is not empty: nothing is written over", subject=str(folder))
    names = sorted(name for name in store.names() if name.startswith(_LEDGER))
    checkpoints = [name for name in names if _CHECKPOINT.fullmatch(name)]
    tiles = [name for name in names if _TILE.fullmatch(name)]
    others = set(names) - {*checkpoints, *tiles}
    refused = [f"{ascii(name)[1:-1]}: not a name of the ledger" for name in sorted(others)]
    for newest in reversed(checkpoints):
        if (checkpoint := _read(store, newest, refused)) is not None:
            break
    else:
        raise NotFound("worm.missing", "the store holds no checkpoint", subject=store.address)
    files = total = 0
    for done, name in enumerate(tiles, 1):
        if (data := _read(store, name, refused)) is not None:
            files, total = files + 1, total + _put(folder / name.removeprefix(_LEDGER), data)
        progress(done, len(tiles))
    total += _put(folder / "checkpoint", checkpoint)
    return Restored(files + 1, total, int(newest.removeprefix(_CHECKPOINTS)), tuple(refused))


def _read(store: WormStore, name: str, refused: list[str]) -> bytes | None:
    """Return a copy, or None when somebody planted or removed it; the ledger's check tells whether it is needed."""
    try:
        return store.read(name)
    except Integrity as error:
        refused.append(f"{name}: {error.got}")
    except NotFound as error:
        refused.append(f"{name}: {error.message}")
    return None


def _put(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)
