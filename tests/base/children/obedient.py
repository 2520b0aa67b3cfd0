"""A child for the tests of `qcos.base.process`: does what its request says."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from qcos.base.process import serve


def handle(request: bytes) -> bytes:
    order, _, rest = request.partition(b" ")
    match order:
        case b"echo":
            return rest
        case b"loop":
            while True:
                pass
        case b"crash":
            ctypes.string_at(0)
        case b"memory":
            return bytes(int(rest))[:1]
        case b"fail":
            raise ValueError(rest.decode())
        case b"panic":
            raise SystemExit("not an Exception")
        case b"print":
            print("noise in the frames", flush=True)
            os.write(2, b"noise\n")
            return b"quiet"
        case b"read":
            return Path(rest.decode()).read_bytes()
        case b"where":
            return f"{Path.cwd()} {len(list(Path.cwd().iterdir()))}".encode()
        case b"environment":
            return " ".join(sorted(os.environ)).encode()
    return b"?"


if __name__ == "__main__":
    serve(handle)
