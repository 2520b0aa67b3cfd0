"""The same child, unable to open files."""

from __future__ import annotations

from obedient import handle

from qcos.base.process import serve

if __name__ == "__main__":
    serve(handle, sealed=True)
