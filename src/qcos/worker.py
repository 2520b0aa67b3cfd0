"""The worker process: serves the queue of some drivers, in the environment that has their SDKs and credentials."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping, Sequence

import uvloop

from qcos.app import make_execution
from qcos.backends import store as backends
from qcos.backends.declare import Declared, declare
from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.base.process import collect_rarely, take_long_turns
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
    take_long_turns()
    worker = f"{socket.gethostname()}:{os.getpid()}"
    execution, loaded, keys = make_execution(settings, drivers, worker)
    collect_rarely()
    stopped = threading.Event()
    presence = threading.Thread(
        target=_announce, args=(execution, loaded, _places(settings), stopped), name="presence", daemon=True
    )
    presence.start()
    threading.Thread(target=keys.watch, args=(stopped,), name="keys", daemon=True).start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_consume(settings, execution, loaded))
    finally:
        stopped.set()
        execution.close()
        for driver in loaded:
            driver.close()
        shutdown()
        if execution.abandoned:
            os._exit(1)  # the interpreter would wait for the threads of calls that never return


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


def _places(settings: Settings) -> dict[str, Declared]:
    return {name: Declared(**place.model_dump()) for name, place in settings.places.items()}


def _announce(
    execution: Execution, drivers: Sequence[Driver], places: Mapping[str, Declared], stopped: threading.Event
) -> None:
    """Load the SDKs, register the drivers' backends, then say every few seconds that they can be reached and how long their queue is."""
    prepared = registered = False
    while True:
        try:
            _touch(execution, drivers, places, register=prepared and not registered)
            registered = prepared
            # After a restart its backends are known already: they take work, which waits meanwhile.
            if not prepared:
                for driver in drivers:
                    driver.prepare()
                prepared = True
                continue
        except Unavailable as error:  # consume() ends the process if it is the database and stays away
            _log.warning("the backends are not announced: %s", error)
        except Exception:  # a driver's bug makes its backends offline; whether for long, the next round tells
            _log.exception("the backends cannot be announced")
        if stopped.wait(_TOUCH_S):
            return


def _touch(
    execution: Execution, drivers: Sequence[Driver], places: Mapping[str, Declared], *, register: bool
) -> None:
    described = {driver.name: driver.describe() for driver in drivers}
    with scope(execution.engine, None) as connection:
        if register:
            backends.register(
                connection,
                [declare(backend, places) for listed in described.values() for backend in listed],
                now(),
            )
        waiting = queue.depths(connection)
        for name, listed in described.items():
            depths = {backend.name: waiting.get(f"run:{name}", 0) for backend in listed}
            backends.touch(connection, name, now(), depths)
