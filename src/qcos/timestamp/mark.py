"""The latest time an authority has named, kept over restarts: a clock set back while nobody looked is noticed.

One small file of one line, replaced at most once a second; several processes may share it. Losing it costs
that notice, nothing else. Somebody who can write to it can stop the authority until the time he wrote.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path
from typing import Final

from qcos.base.clock import parse_rfc3339, rfc3339

_EVERY: Final = dt.timedelta(seconds=1)
NEVER: Final = dt.datetime.fromtimestamp(0, dt.UTC)


class Mark:
    """The file.

    Args:
        path: Where it lies; its folder must exist when something is noted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = self.latest()

    def latest(self) -> dt.datetime:
        """Return the time noted last; the beginning of time when there is none."""
        try:
            return parse_rfc3339(self._path.read_text().strip())
        except (OSError, ValueError):
            return NEVER

    def note(self, at: dt.datetime) -> None:
        """Note a time that was named. A folder that cannot be written to is no reason not to stamp."""
        if at - self._written < _EVERY:
            return
        self._written = at
        making = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            making.write_text(rfc3339(at) + "\n")
            making.replace(self._path)
