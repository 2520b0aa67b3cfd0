"""Bundles: names, sizes, versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid, NotFound
from qcos.base.limits import MAX_POLICY_BYTES, MAX_POLICY_FILES
from qcos.policy import bundle

TEXT = "package qcos.jobs.a\n"


def test_version_depends_on_content_only() -> None:
    """R3.1: the same files have the same version, whatever their order."""
    one = bundle.of({"jobs/a.rego": TEXT, "jobs/b.rego": TEXT})
    other = bundle.of({"jobs/b.rego": TEXT, "jobs/a.rego": TEXT})
    assert one.version == other.version
    assert one.version.startswith("sha256:") and len(one.version) == 71
    assert list(one.files) == ["jobs/a.rego", "jobs/b.rego"]


@given(st.sampled_from(["jobs/a.rego", "jobs/b.rego"]), st.text(min_size=1, alphabet="abc \n#"))
def test_any_change_changes_the_version(path: str, added: str) -> None:
    files = {"jobs/a.rego": TEXT, "jobs/b.rego": TEXT}
    assert bundle.of(files).version != bundle.of({**files, path: TEXT + added}).version


def test_version_tells_files_apart() -> None:
    """Moving a line from one file to the next is a change too."""
    assert (
        bundle.of({"a.rego": "x", "b.rego": "y"}).version
        != bundle.of({"a.rego": "xy", "b.rego": ""}).version
        != bundle.of({"b.rego": "x", "a.rego": "y"}).version
    )


def test_files_cannot_be_changed() -> None:
    made = bundle.of({"a.rego": TEXT})
    with pytest.raises(TypeError):
        made.files["a.rego"] = ""  # type: ignore[index]


@pytest.mark.parametrize(
    "path",
    [
        "../a.rego",
        "a/../../b.rego",
        "/etc/passwd.rego",
        "a//b.rego",
        "a\\b.rego",
        "C:/a.rego",
        "a\n.rego",
        "a.rego\n",
        ".hidden.rego",
        "a/.git/b.rego",
        "a.rego/",
        "a.json",
        "a.rego\x00",
        "",
        "é.rego",
        "<engine>.rego",
        "x" * 80 + ".rego",
        "/".join(["d"] * 12) + "/a.rego",
    ],
)
def test_strange_names_are_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        bundle.of({path: TEXT})
    assert caught.value.code == "policy.bundle"
    assert "not a name of a policy file" in caught.value.problems[0].message


def test_all_problems_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        bundle.of({"../a.rego": TEXT, "b.rego": "x\x00", "c.rego": "\ud800"})
    assert [p.pointer for p in caught.value.problems] == [
        "/files/..~1a.rego",
        "/files/b.rego",
        "/files/c.rego",
    ]


def test_sizes_are_bounded() -> None:
    with pytest.raises(Invalid, match="too large"):
        bundle.of({"a.rego": "#" * (MAX_POLICY_BYTES + 1)})
    with pytest.raises(Invalid, match="too many files"):
        bundle.of({f"a{i}.rego": TEXT for i in range(MAX_POLICY_FILES + 1)})
    with pytest.raises(Invalid, match="the bundle is empty"):
        bundle.of({})


def test_load_reads_rego_files_below_a_directory(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.rego").write_text(TEXT)
    (tmp_path / "README.md").write_text("not a policy")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "jobs" / "link.rego").symlink_to(secret)
    assert bundle.load(tmp_path) == bundle.of({"jobs/a.rego": TEXT})


def test_load_refuses(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        bundle.load(tmp_path / "nothing")
    (tmp_path / "a.rego").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="not UTF-8"):
        bundle.load(tmp_path)
    (tmp_path / "a.rego").write_bytes(b"#" * (MAX_POLICY_BYTES + 1))
    with pytest.raises(Invalid, match="too large"):
        bundle.load(tmp_path)


def test_extend_replaces_and_adds() -> None:
    base = bundle.of({"a.rego": TEXT})
    more = bundle.extend(base, {"a.rego": "#", "b.rego": TEXT})
    assert dict(more.files) == {"a.rego": "#", "b.rego": TEXT}
    assert dict(base.files) == {"a.rego": TEXT}
