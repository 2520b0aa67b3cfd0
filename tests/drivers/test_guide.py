"""The driver in the guide is a driver: its code goes from the page through the conformance suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qcos.drivers import registry
from qcos.drivers.conformance import check

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-driver.md"


def test_the_guides_driver_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R8.5: somebody who follows the guide has a driver that QCOS finds and that keeps every promise."""
    text = GUIDE.read_text()
    files = re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == ["basic_driver.py", "basic_child.py"]
    for name, code in files:
        (tmp_path / name).write_text(code)
    (toml,) = re.findall(r"```toml\n\[project\.entry-points\.\"qcos\.drivers\"\]\n(.*?)```", text, re.DOTALL)
    info = tmp_path / "basic-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: basic\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qcos.drivers]\n" + toml.replace('"', ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    driver = registry.load("basic")
    try:
        broken = [f"{c.name}: {c.detail}" for c in check(driver) if not c.ok]
    finally:
        driver.close()
    assert not broken, "\n".join(broken)
