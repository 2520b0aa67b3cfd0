"""A simulating process without an SDK, for the tests of `qcos.drivers.runs`; the program is an order."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from qcos.base.errors import DriverError
from qcos.base.process import serve
from qcos.drivers.simulate import Ran, answering


class Pretending:
    """Obeys: ``count FILE`` adds a line to it, ``hang FILE`` writes its process id to it and never ends."""

    runtime = "pretending-1"
    seeded = True

    def load(self, backend: str) -> None:
        if backend == "broken":
            raise ImportError("no such SDK")

    def run(
        self,
        backend: str,
        program: Any,
        parameters: dict[str, float],
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> Ran:
        order, _, rest = program.partition(" ")
        match order:
            case "count":
                with Path(rest).open("a") as lines:
                    lines.write(f"{seed}\n")
            case "hang":
                Path(rest).write_text(str(os.getpid()))
                while True:
                    time.sleep(60)
            case "crash":
                ctypes.string_at(0)
            case "refuse":
                raise DriverError("driver.unsupported", "cannot", subject=rest)
            case "fail":
                raise ValueError("inside the SDK")
            case "memory":
                bytearray(1 << 45)
        return Ran({"0": shots}, 1, {"order": order})


class Text(str):
    """What the real reader gives, as far as `simulate` looks."""

    measures = True


if __name__ == "__main__":
    serve(answering(Pretending, lambda source, format: Text(source)))  # type: ignore[arg-type, return-value]
