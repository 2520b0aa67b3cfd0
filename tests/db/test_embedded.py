"""The embedded PostgreSQL starts, keeps its promises of durability, and survives a kill."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import sqlalchemy as sa

from qcos.db import embedded


def _ask(url: str, sql: str) -> object:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        return connection.exec_driver_sql(sql).scalar()


def test_it_starts_with_fsync_and_checksums_and_is_found_again(tmp_path: Path) -> None:
    first = embedded.start(tmp_path / "pg")
    try:
        assert _ask(first.admin_url, "show fsync") == "on"
        assert _ask(first.admin_url, "show synchronous_commit") == "on"
        assert _ask(first.admin_url, "show data_checksums") == "on"
        assert embedded.start(tmp_path / "pg") == first
    finally:
        embedded.stop(tmp_path / "pg")
    assert embedded.running_pid(tmp_path / "pg") is None


def test_committed_rows_survive_a_kill_in_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = embedded.start(private / "pg")
    engine = sa.create_engine(server.admin_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table kept as select 7 as n")
    last = psutil.Process(server.pid).children()[0]
    last.suspend()  # one of its processes does not notice
    os.kill(server.pid, signal.SIGKILL)
    while embedded.running_pid(private / "pg") == server.pid:
        time.sleep(0.02)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(embedded.start, private / "pg")
        while embedded._IN_USE not in (private / "pg" / "server.log").read_bytes():
            assert not starting.done(), "it waits until nobody uses the files any more"
            time.sleep(0.02)
        last.resume()
        again = starting.result(120)
    try:
        assert again.port == server.port
        assert _ask(again.admin_url, "select n from kept") == 7
    finally:
        embedded.stop(private / "pg")


def test_a_folder_whose_path_is_too_long_for_a_socket_is_served_over_loopback(tmp_path: Path) -> None:
    deep, short = tmp_path / ("d" * 100) / "pg", Path(tempfile.mkdtemp(prefix="qcos-test-"))
    for folder, address in ((deep, "127.0.0.1"), (short / "pg", str(short / "pg" / "socket"))):
        server = embedded.start(folder)
        try:
            assert address in server.app_url
            assert _ask(server.admin_url, "select 7") == 7
        finally:
            embedded.stop(folder)
    assert oct((short / "pg" / "socket").stat().st_mode & 0o777) == "0o700", "nobody else reaches the socket"
    shutil.rmtree(short)
