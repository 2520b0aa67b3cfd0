"""The killable process that reads programs (`qcos.base.process`); imports are done before it is ready."""

from __future__ import annotations

import json
import sys

from qcos.base.errors import Limit, QcosError
from qcos.base.process import serve
from qcos.circuits.facts import read

RECURSION: int = 8_000  # frames; the grammar takes about 40 for each of MAX_NESTING levels

_WARM = (
    "QASM3 -\n"
    'OPENQASM 3.0; include "stdgates.inc"; gate g(a) q { rx(a/2) q; } qubit[2] q; bit[2] c;'
    " for int i in [0:1] { g(pi) q[i]; } if (c[0] == 1) { x q[0]; }"
    " h q[0]; ctrl @ x q[0], q[1]; c = measure q;"
)


def handle(request: bytes) -> bytes:
    """Answer ``<format> <digest>\\n<checked text>`` with JSON: ``facts`` or ``error``."""
    head, _, bare = request.decode("utf-8").partition("\n")
    format, digest = head.split(" ")
    try:
        return json.dumps({"facts": read(bare, format, digest).as_dict()}).encode()
    except RecursionError:
        error: QcosError = Limit("circuit.nesting", "expressions or blocks are nested too deeply")
    except QcosError as caught:
        error = caught
    return json.dumps({"error": error.as_dict()}).encode()


if __name__ == "__main__":
    sys.setrecursionlimit(RECURSION)
    handle(_WARM.encode())
    serve(handle, sealed=True)
