"""The supervisor itself is killed; a worker is told to stop, or stands still for a while."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qcos.base.limits import HEARTBEAT_TIMEOUT_S
from qcos.client import Client
from qcos.db import embedded

from .house import House, descendants, processes, settle_in
from .world import spec, until

# Heavy enough that its run is met by what is done to the worker: 18 qubits, 1,400 gates.
HEAVY = "\n".join(
    ["OPENQASM 3.0;", 'include "stdgates.inc";', "qubit[18] q;", "bit[18] c;"]
    + [f"h q[{n}];" for n in range(18)]
    + [f"rx(0.1) q[{n % 18}]; cx q[{n % 18}], q[{(n + 1) % 18}];" for n in range(700)]
    + ["c = measure q;"]
)


def submit(alice: Client, key: str, **options: object) -> str:
    return alice.jobs.submit(json.loads(spec(**options)), key=key)["job_id"]


def heavy(alice: Client, key: str) -> str:
    return alice.jobs.submit(json.loads(spec(source=HEAVY)), key=key)["job_id"]


def heavies(alice: Client, key: str, count: int) -> list[str]:
    """Submit heavy jobs and return them while all run; where one has ended before anybody looked, others are sent."""
    for turn in range(20):
        jobs = [heavy(alice, f"{key}-{turn}-{n}") for n in range(count)]
        until(lambda jobs=jobs: {state(alice, job) for job in jobs} <= {"running", "completed"}, "they run")  # type: ignore[misc]
        if {state(alice, job) for job in jobs} == {"running"}:
            return jobs
    raise AssertionError("nobody ever sees them run")


def state(alice: Client, job: str) -> str:
    return str(alice.jobs.get(job)["state"])


def assert_charged_once(house: House, alice: Client, jobs: list[str]) -> None:
    for job in jobs:
        done = alice.jobs.wait_for(job, timeout_s=180)
        assert done["state"] == "completed", done
        items = [line["item"] for line in alice.metering.charges(job=job)["items"]]
        assert items and len(items) == len(set(items))
        assert json.loads(alice.jobs.evidence(job, wait_s=60))["job_id"] == job
    with house.client() as admin:
        [budget] = admin.metering.budgets()["items"]
        assert budget["reserved"]["micro"] == 0
        charged = sum(done["charge"]["micro"] for done in admin.jobs.each())
        assert budget["settled"]["micro"] == charged


@pytest.mark.timeout(600)
def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_finishes_their_jobs(
    tmp_path: Path,
) -> None:
    """PostgreSQL is a daemon of its own: it stays, and is found again."""
    with House(tmp_path / "data") as house:
        alice, token = settle_in(house)
        jobs = [heavy(alice, f"k{n}") for n in range(3)] + [submit(alice, f"s{n}") for n in range(20)]
        children = descendants(house.up.pid)
        assert len(children) >= 3
        postgres = house.running("postgres")
        house.up.kill()
        house.up.communicate()
        until(lambda: not children & set(processes()), "its children end")
        assert embedded.running_pid(house.data / "postgres") == postgres
        alice.close()
        house.engine.dispose()
        house.launch()
        house.wait_ready()
        with house.client(token) as again:
            assert_charged_once(house, again, jobs)
            assert submit(again, "s0") == jobs[3]
        children = descendants(house.up.pid)
        assert house.stop() == 0
        until(lambda: not children & set(processes()), "its children end")
        assert embedded.running_pid(house.data / "postgres") is None


FIRST_START = (  # in the order a first start makes them
    "postgres/cluster*",  # while it is made it has another name, which may be gone before anybody looks
    "postgres/cluster/qcos.conf",
    "postgres/cluster/postmaster.pid",
    "trust.json",
    "admin.token",
    "logs/api.log",
)


@pytest.mark.timeout(600)
def test_a_first_start_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    """Keys, schema, tenant and token: whatever was made is kept, whatever was not is made; no child is left behind."""
    house = House(tmp_path / "data")
    for made in FIRST_START:
        house.launch()
        try:
            until(lambda name=made: [*house.data.glob(name)], f"{made} is made")  # type: ignore[misc]
        finally:
            house.up.kill()
            house.up.communicate()
        until(lambda: not house.children(), "its children end")
    with house:
        alice, _ = settle_in(house)
        assert_charged_once(house, alice, [submit(alice, "one")])
        alice.close()
        refused = subprocess.run([*house.up.args], capture_output=True, text=True, check=False)  # type: ignore[misc]
        assert refused.returncode != 0 and "up.running" in refused.stdout + refused.stderr


@pytest.fixture(scope="module")
def inhabited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Client]]:
    """An installation for several tests, with an engineer."""
    with House(tmp_path_factory.mktemp("house") / "data") as house:
        alice, _ = settle_in(house)
        yield house, alice
        alice.close()


def attempts(house: House, jobs: list[str]) -> set[int]:
    return {row.attempt for row in house.rows("select id, attempt from qcos.job") if row.id in jobs}


@pytest.mark.timeout(600)
def test_a_worker_told_to_stop_finishes_the_jobs_in_hand(inhabited: tuple[House, Client]) -> None:
    house, alice = inhabited
    pid = house.running("worker")
    jobs = heavies(alice, "stop", 2)
    os.kill(pid, signal.SIGTERM)
    until(lambda: pid not in processes(), "the worker ends")
    assert {state(alice, job) for job in jobs} == {"completed"}
    assert attempts(house, jobs) == {1}
    assert_charged_once(house, alice, jobs)


@pytest.mark.timeout(600)
def test_a_worker_that_stood_still_finds_its_jobs_done_and_lets_go(inhabited: tuple[House, Client]) -> None:
    """Its heartbeat is late, another worker takes its jobs; when it wakes up it may write nothing of them."""
    house, alice = inhabited
    stopped = house.running("worker")
    jobs = [submit(alice, f"s{n}") for n in range(10)]
    jobs += heavies(alice, "still", 2)
    os.kill(stopped, signal.SIGSTOP)
    with house.second_worker() as second:
        until(
            lambda: {state(alice, job) for job in jobs} == {"completed"},
            f"the second worker takes over after {HEARTBEAT_TIMEOUT_S} s",
        )
        os.kill(stopped, signal.SIGCONT)
        more = [submit(alice, f"m{n}") for n in range(10)]
        assert_charged_once(house, alice, jobs + more)
        assert second.poll() is None
    assert house.pid("worker") == stopped
    # Twice where all goes well; a machine that stands still makes the second one's heartbeat late, too.
    assert max(attempts(house, jobs)) >= 2


def test_the_supervisor_is_fit_for_forking(inhabited: tuple[House, Client]) -> None:
    """One thread; of files the lock alone, of a kind that forks do not hold; of sockets the one it listens with, the API's alone."""
    house, _ = inhabited
    supervisor = psutil.Process(house.up.pid)
    assert supervisor.num_threads() == 1
    lock, ports = str(house.data / "up.lock"), {one.status for one in supervisor.net_connections("all")}
    assert [file.path for file in supervisor.open_files() if file.path.startswith(str(house.data))] == [lock]
    assert ports == {psutil.CONN_LISTEN}
    table = Path("/proc/locks").read_text().splitlines()
    inode = (house.data / "up.lock").stat().st_ino
    locks = [line.split() for line in table if line.split()[-3].endswith(f":{inode}")]
    assert [(lock[1], lock[4]) for lock in locks] == [("POSIX", str(supervisor.pid))]
    listening = {
        name: [
            one
            for one in psutil.Process(house.running(name)).net_connections()
            if one.status == psutil.CONN_LISTEN
        ]
        for name in ("api", "duties", "worker")
    }
    assert {name for name, found in listening.items() if found} == {"api"}
