"""What the ledger's records say, act by act, as a published JSON Schema; and what is not recorded."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

import jsonschema_rs

SCHEMA: Final[dict[str, Any]] = json.loads(
    resources.files("qcos.administration").joinpath("ledger-record.schema.json").read_text()
)  # Any: JSON Schema
ACTS: Final[frozenset[str]] = frozenset(SCHEMA["$defs"]["acts"])
_VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA, validate_formats=True)


def faults(record: dict[str, Any]) -> list[str]:  # Any: JSON
    """Return in what a record differs from the published schema; for records as they were signed, without ``index``."""
    return [f"{record.get('act')}: {error.message}" for error in _VALIDATOR.iter_errors(record)]
