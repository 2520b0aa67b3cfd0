"""An installation that was stopped for a day with entries still to be sequenced comes up and takes acts."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from qcos.client import Client
from qcos.db import embedded

from .installation import running


def test_what_waited_through_a_stop_refuses_nobody(tmp_path: Path) -> None:
    """R5.5: the backlog's limit is for a sequencer that stands still, not for one that was switched off."""
    data = tmp_path / "data"
    with running(data, "aer") as first:
        assert first.token_file.exists()
    server = embedded.start(data / "postgres")
    owner = sa.create_engine(server.admin_url, poolclass=sa.NullPool)
    with (
        owner.begin() as connection
    ):  # as if the sequencer had been killed before these, and a day had passed
        connection.exec_driver_sql("insert into qcos.ledger_entry (digest) values (sha256('waits'))")
        connection.exec_driver_sql("update qcos.ledger_entry set at = at - interval '1 day'")
        connection.exec_driver_sql("update qcos.ledger_state set moved = moved - interval '1 day'")
    owner.dispose()
    embedded.stop(data / "postgres")
    first.token_file.unlink()  # so that the start itself has an act to record
    with running(data, "aer") as second:
        with Client(second.url, second.admin_token) as client:
            client.identity.create_project("p", team="t", cost_center="c")
            each = [record["act"] for record in client.ledger.each()]
            acts = [
                act for act in each if act != "key.in_use"
            ]  # processes say which keys they use, at any moment
        assert acts[:2] == ["project.created", "token.created"]
