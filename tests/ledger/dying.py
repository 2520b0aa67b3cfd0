"""A process that runs one step of a sequencer and kills itself after a given write."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from qcos.db.engine import make_engine
from qcos.ledger.collect import Witnesses
from qcos.ledger.quorum import read_policy
from qcos.ledger.sequence import Sequencer

from .conftest import ORIGIN, make_signers


def main(url: str, directory: str, seed: str, deadly: str, policy: str = "") -> None:
    def on_stage(stage: str) -> None:
        if stage == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    witnesses = Witnesses(read_policy(Path(policy).read_bytes()), timeout_s=60.0) if policy else None
    signers = make_signers(seed=bytes.fromhex(seed))
    Sequencer(
        make_engine(url), Path(directory), signers, ORIGIN, witnesses=witnesses, on_stage=on_stage
    ).step()


if __name__ == "__main__":
    main(*sys.argv[1:])
