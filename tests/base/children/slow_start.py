"""A child whose imports take longer than the deadlines of its calls."""

from __future__ import annotations

import time

from obedient import handle

from qcos.base.process import serve

if __name__ == "__main__":
    time.sleep(6)
    serve(handle)
