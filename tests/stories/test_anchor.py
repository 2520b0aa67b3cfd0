"""R5.7: with a node configured, checkpoints are anchored by themselves; whoever has the receipt verifies it offline."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account

from ledger.anchor.conftest import KEY, Node, anvil  # noqa: F401 - a fixture

from .house import PATIENT_S
from .installation import QCOS, running


def test_from_configuration_to_offline_verification(
    request: Any, component: Callable[[str], Path], clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """R5.7."""
    node: Node = request.getfixturevalue("anvil")
    node.fund(Account.from_key(KEY).address)
    (tmp_path / "anchor.key").write_text(KEY)
    variables = {
        "QCOS_ANCHOR_ETHEREUM_URL": node.url,
        "QCOS_ANCHOR_ETHEREUM_KEY": str(tmp_path / "anchor.key"),
        "QCOS_ANCHOR_ETHEREUM_CONFIRMATIONS": "1",
        "QCOS_ANCHOR_LOOK_S": "0.2",
    }
    with running(tmp_path / "data", "aer", variables) as qcos:
        trust = tmp_path / "trust.json"
        trust.write_bytes(qcos.trust_file.read_bytes())
        deadline = time.monotonic() + 120
        while True:
            node.mine(1)
            answer = httpx.get(f"{qcos.url}/v1/ledger/anchors", timeout=PATIENT_S, trust_env=False)
            (item,) = answer.json()["items"] or [{"state": "none"}]
            if item["state"] == "confirmed":
                break
            assert time.monotonic() < deadline, item
            time.sleep(0.1)
        environment = clean_environment | {"QCOS_URL": qcos.url, "QCOS_TOKEN": qcos.admin_token}
        listed = _qcos(environment, "anchor", "list")[1]["items"]
        assert [one["kind"] for one in listed] == ["ethereum"]
        file = str(tmp_path / "receipt.json")
        code, receipt = _qcos(environment, "anchor", "get", "ethereum", str(item["size"]), "-o", file)
        assert code == 0
        code, gone = _qcos(environment, "anchor", "get", "ethereum", "999999")
        assert (code, gone["code"]) == (4, "anchor.unknown")

    code, told = _qcos(
        clean_environment, "anchor", "verify", file, "--trust", str(trust)
    )  # the server is stopped
    assert (code, told["ok"]) == (1, False)
    block = node.call("eth_getBlockByNumber", hex(told["height"]), False)["hash"]
    assert told["block"] == block
    code, told = _qcos(clean_environment, "anchor", "verify", file, "--trust", str(trust), "--block", block)
    assert (code, told["ok"], told["size"]) == (0, True, receipt["size"])
    code, told = _qcos(
        clean_environment, "anchor", "verify", file, "--trust", str(trust), "--block", "0x" + "0" * 64
    )
    assert (code, told["ok"], told["code"]) == (1, False, "anchor.block")


def _qcos(environment: dict[str, str], *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [QCOS, *words, "--json"], capture_output=True, text=True, env=environment, check=False
    )
    text = done.stdout or done.stderr
    return done.returncode, json.loads(text)
