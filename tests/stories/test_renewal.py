"""Time stamps are renewed by the administrator's command; bundles carry the renewal from then on (R4.3, R5.3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .house import House
from .test_cli import run


def test_the_administrator_renews_time_stamps(
    house: House, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """R4.2, R4.3: renewed twice, verified offline for now and for later; who may not is refused, and that is recorded."""
    first = house.run()
    denied = run(house.engineer, clean_environment, "evidence", "renew", "--all", code=3)
    assert denied[0]["details"]["act"] == "evidence.renew" if "details" in denied[0] else denied[0]["act"]
    (nothing,) = run(house.admin, clean_environment, "evidence", "renew")
    assert nothing == {"bundles": 0, "rehashed": 0, "late": 0, "broken": 0, "renewals": []}, (
        "nothing is due for years"
    )

    def renew(bundles: int) -> str:
        command = ("evidence", "renew", "--all", "--reason", "a rehearsal")
        (done,) = run(house.admin, clean_environment, *command)
        assert (done["bundles"], done["late"], done["broken"]) == (bundles, 0, 0)
        (renewal,) = done["renewals"]
        (record,) = house.records(object=renewal)
        assert record["act"] == "evidence.renewed"
        assert record["reason"] == "a rehearsal"
        assert record["details"]["bundles"] == bundles
        assert record["details"]["root"].startswith("sha512:")
        return str(renewal)

    renew(1)
    second = house.run()
    renew(2)
    command = ("evidence", "renew", "--hash", "sha3-512", "--reason", "SHA-512 gets weak")
    (anew,) = run(house.admin, clean_environment, *command)
    assert (anew["bundles"], anew["rehashed"], anew["late"], anew["broken"]) == (2, 2, 0, 0)
    (record,) = house.records(object=anew["renewals"][0])
    assert record["details"]["root"].startswith("sha3-512:")
    (again,) = run(house.admin, clean_environment, *command)
    assert again["bundles"] == 0, "all of it rests on the new hash"
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps(house.qcos.trust))
    for job, count in ((first, 3), (second, 2)):
        file = tmp_path / f"{job['job_id']}.json"
        file.write_text(json.dumps(house.bundle(job["job_id"])))
        report = _verified(house, clean_environment, file, trust, "now")
        assert len(report["facts"]["renewals"]) == count
        assert report["facts"]["renewals"][-1]["hash"] == "sha3-512"
        assert {"renewal", "long term"} <= {check["name"] for check in report["checks"]}
        late = run(
            house.engineer,
            clean_environment,
            *("evidence", "verify", str(file), "--trust", str(trust), "--at", "2090-01-01T00:00:00Z"),
            code=1,
        )
        assert [check["code"] for check in late[0]["checks"] if not check["ok"]] == ["timestamp.expired"]


def _verified(house: House, environment: dict[str, str], file: Path, trust: Path, at: str) -> Any:
    (report,) = run(
        house.engineer, environment, "evidence", "verify", str(file), "--trust", str(trust), "--at", at
    )
    assert report["ok"]
    return report
