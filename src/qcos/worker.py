"""The worker process: serves the queue of some drivers, in the environment that has their SDKs and credentials."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from qcos.app import make_execution
from qcos.backends import store as backends
from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.base.process import die_with_parent
from qcos.db import queue
from qcos.db.engine import scope
from qcos.drivers.contract import Driver
from qcos.jobs.execute import Execution
from qcos.settings import Settings
from qcos.telemetry import configure, shutdown

_log = logging.getLogger("qcos.worker")
_TOUCH_S = 5.0  # a backend whose driver's worker was not heard of for 30 s counts as offline


def work(settings: Settings, drivers: Sequence[str]) -> None:
    """Run a worker until SIGTERM; jobs in hand are finished first."""
    configure("qcos-worker")
    worker = f"{socket.gethostname()}:{os.getpid()}"
    execution, loaded = make_execution(settings, drivers, worker)
    stopped = threading.Event()
    presence = threading.Thread(
        target=_announce, args=(execution, loaded, stopped), name="presence", daemon=True
    )
    presence.start()
    try:
        asyncio.run(_consume(settings, execution, loaded))
    finally:
        stopped.set()
        execution.close()
        for driver in loaded:
            driver.close()
        shutdown()


async def _consume(settings: Settings, execution: Execution, drivers: Sequence[Driver]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _log.info("worker ready", extra={"drivers": [driver.name for driver in drivers]})
    await queue.consume(
        settings.database_url.get_secret_value(),
        {f"run:{driver.name}": execution.handle for driver in drivers},
        concurrency=settings.worker_concurrency,
        stop=stop,
    )


def _announce(execution: Execution, drivers: Sequence[Driver], stopped: threading.Event) -> None:
    """Load the SDKs, register the drivers' backends, then say every few seconds that they can be reached and how long their queue is."""
    for driver in drivers:
        driver.prepare()
    registered = False
    while True:
        with contextlib.suppress(
            Unavailable
        ):  # the database is away: consume() ends the process if it stays away
            described = {driver.name: driver.describe() for driver in drivers}
            with scope(execution.engine, None) as connection:
                if not registered:
                    backends.register(
                        connection, [backend for listed in described.values() for backend in listed], now()
                    )
                    registered = True
                waiting = queue.depths(connection)
                for name, listed in described.items():
                    backends.touch(
                        connection,
                        name,
                        now(),
                        {backend.name: waiting.get(f"run:{name}", 0) for backend in listed},
                    )
        if stopped.wait(_TOUCH_S):
            return


if __name__ == "__main__":
    die_with_parent()
    work(Settings(), sys.argv[1:])
