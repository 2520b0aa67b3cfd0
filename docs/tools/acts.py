"""Write docs/reference/ledger-acts.md from the schema of records: ``python docs/tools/acts.py > docs/reference/ledger-acts.md``."""

from __future__ import annotations

import sys
from typing import Any

from qcos.administration.recorded import SCHEMA

HEAD = """\
# Acts in the ledger

What each record says. Its schema, `qcos.ledger.record/v1`, is published as JSON Schema: `GET /v1/schemas/ledger-record.json`. The members
that all records have stand in [the audit ledger](ledger.md#what-is-public-and-what-is-not). This page is written by
`python docs/tools/acts.py` from that schema; tests compare the two, and hold the records of whole stories against the schema.

`change` holds the SHA-256 of the object's state in canonical JSON (RFC 8785), `before` and `after` the act; `null` where there was or is
nothing. Acts of administration also name the `decision` that permitted them, with its `policy_version`.

| act | what was done | object | members of `details` | state in `change` |
|---|---|---|---|---|
"""
MIDDLE = """
A new act, or a new member, is added to the schema under the same version; nothing is removed or changes its meaning without a new one.

## What is not recorded

| what | why |
|---|---|
"""


def _members(act: dict[str, Any]) -> str:  # Any: JSON Schema
    named = []
    for name, member in act["properties"].items():
        if name == "change" or (name in ("decision", "policy_version") and name not in act["required"]):
            continue
        said = member.get("description", "")
        named.append(f"`{name}`" + (f" ({said[0].lower()}{said[1:].rstrip('.')})" if said else ""))
    return ", ".join(named)


def main() -> None:
    """Write the page to standard output."""
    out = [HEAD]
    for name, act in SCHEMA["$defs"]["acts"].items():
        state = act["properties"].get("change", {}).get("description", "nothing changed")
        out.append(f"| `{name}` | {act['description']} | {act['x-object']} | {_members(act)} | {state} |\n")
    out.append(MIDDLE)
    out += [f"| {one['what']} | {one['why']} |\n" for one in SCHEMA["x-not-recorded"]]
    sys.stdout.write("".join(out))


if __name__ == "__main__":
    main()
