"""A sequencer that steps when it is told to over a socket, and answers how it went; its system calls are made to fail.

Nothing but the log's files is written with ``write``, so a test can count those calls: words come and go over the socket.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from qcos.base.errors import QcosError
from qcos.db.engine import make_engine
from qcos.ledger.sequence import Sequencer

from .conftest import ORIGIN, make_signers


def main(number: str, url: str, directory: str, seed: str) -> None:
    told = socket.socket(fileno=int(number))
    sequencer = Sequencer(make_engine(url), Path(directory), make_signers(seed=bytes.fromhex(seed)), ORIGIN)
    while told.recv(16):
        try:
            while (step := sequencer.step()).added:
                pass
            answer = f"size {step.size}"
        except OSError as error:
            answer = f"errno {error.errno}"
        except QcosError as error:
            answer = f"error {error.code}"
        told.sendall(answer.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
