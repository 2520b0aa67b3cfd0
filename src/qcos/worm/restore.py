"""Get the ledger's files back out of a WORM store, without a database: a folder that `qcos ledger verify` takes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcos.base.errors import Conflict, NotFound
from qcos.worm.model import Item, WormStore

_LEDGER: Final = "ledger/"
_CHECKPOINTS: Final = "ledger/checkpoints/"
_FAR: Final = dt.datetime.max.replace(
    tzinfo=dt.UTC
)  # an item's name is checked before it is joined to a path


@dataclass(frozen=True, slots=True)
class Restored:
    """What came out: files, bytes, and the entries of the newest checkpoint."""

    files: int
    size: int
    entries: int


def restore(store: WormStore, folder: Path, progress: Callable[[int, int], None]) -> Restored:
    """Write the newest checkpoint that was kept, and all tiles, into a new folder.

    Args:
        store: The store.
        folder: Made; must not hold anything.
        progress: Called with files done and files in all.

    Raises:
        Conflict: ``worm.folder`` when the folder holds something.
        NotFound: ``worm.missing`` when the store holds no checkpoint.
        Unavailable: ``worm.unavailable``.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict("worm.folder", "the folder is not empty: nothing is written over", subject=str(folder))
    names = sorted(name for name in store.names() if name.startswith(_LEDGER))
    checkpoints = [name for name in names if name.startswith(_CHECKPOINTS)]
    if not checkpoints:
        raise NotFound("worm.missing", "the store holds no checkpoint", subject=store.address)
    wanted = {name: name.removeprefix(_LEDGER) for name in names if not name.startswith(_CHECKPOINTS)}
    wanted[checkpoints[-1]] = "checkpoint"
    total = 0
    for done, (name, target) in enumerate(wanted.items(), 1):
        data = store.read(Item(name, b"", _FAR).name)
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        total += len(data)
        progress(done, len(wanted))
    return Restored(len(wanted), total, int(checkpoints[-1].removeprefix(_CHECKPOINTS)))
