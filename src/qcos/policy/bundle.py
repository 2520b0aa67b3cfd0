"""Make policy bundles from files: names, sizes, version. What the files say is judged by `check`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Invalid, NotFound, Problem
from qcos.base.limits import MAX_POLICY_BYTES, MAX_POLICY_FILES
from qcos.policy.model import PolicyBundle

SCHEMA = "qcos.policy.bundle/v1"
_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\.rego")


def of(files: Mapping[str, str]) -> PolicyBundle:
    """Return the bundle of these files.

    The version depends on paths and contents only, so the same files have the same version everywhere.

    Raises:
        Invalid: ``policy.bundle`` with every problem of names and sizes at once.
    """
    problems = [problem for path, text in sorted(files.items()) for problem in _problems(path, text)]
    size = sum(len(text.encode("utf-8", "replace")) for text in files.values())
    if not files:
        problems.append(Problem("/files", "the bundle is empty", hint="start from the shipped policies"))
    if len(files) > MAX_POLICY_FILES:
        problems.append(Problem("/files", "too many files", f"at most {MAX_POLICY_FILES}", str(len(files))))
    if size > MAX_POLICY_BYTES:
        problems.append(Problem("/files", "too large", f"at most {MAX_POLICY_BYTES} bytes", str(size)))
    if problems:
        raise Invalid("policy.bundle", "this is no policy bundle", subject="policy bundle", problems=problems)
    return PolicyBundle(_version(files), MappingProxyType(dict(sorted(files.items()))))


def load(directory: Path) -> PolicyBundle:
    """Return the bundle of the ``*.rego`` files below a directory; links are not followed.

    Raises:
        NotFound: ``policy.directory``.
        Invalid: ``policy.bundle``.
    """
    if not directory.is_dir():
        raise NotFound("policy.directory", "there is no such directory", subject=str(directory))
    files: dict[str, str] = {}
    size = 0
    for path in sorted(directory.rglob("*.rego")):
        if path.is_symlink() or not path.is_file():
            continue
        size += path.stat().st_size
        if size > MAX_POLICY_BYTES:
            limit = f"at most {MAX_POLICY_BYTES} bytes"
            raise Invalid(
                "policy.bundle", "the policies are too large", subject=str(directory), expected=limit
            )
        try:
            files[path.relative_to(directory).as_posix()] = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise Invalid(
                "policy.bundle", "not UTF-8 text", subject=str(path), got=f"byte {error.start}"
            ) from None
    return of(files)


@functools.cache
def shipped() -> PolicyBundle:
    """Return the policies of the paper, as shipped (R3.2-R3.5, R11.4)."""
    files: dict[str, str] = {}
    _collect(resources.files("qcos.policy") / "shipped", "", files)
    return of(files)


def extend(base: PolicyBundle, files: Mapping[str, str]) -> PolicyBundle:
    """Return a bundle with more files; a path that the base has is replaced."""
    return of({**base.files, **files})


def is_test(path: str) -> bool:
    """Tell whether a file holds tests, which take no part in decisions."""
    return path.endswith("_test.rego")


def _collect(folder: Traversable, prefix: str, files: dict[str, str]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _collect(item, f"{prefix}{item.name}/", files)
        elif item.name.endswith(".rego"):
            files[prefix + item.name] = item.read_text("utf-8")


def manifest(files: Mapping[str, str]) -> bytes:
    """Return the canonical bytes whose SHA-256 is the version: the digest of each file by its path."""
    digests = {path: digest(text.encode()) for path, text in files.items()}
    return canonical({"schema": SCHEMA, "files": digests})


def _version(files: Mapping[str, str]) -> str:
    return digest(manifest(files))


def _problems(path: str, text: str) -> list[Problem]:
    pointer = "/files/" + path[:80].replace("~", "~0").replace("/", "~1")
    problems = []
    if not _PATH.fullmatch(path) or ".." in path:
        problems.append(
            Problem(
                pointer,
                "not a name of a policy file",
                expected="a relative path such as jobs/budget.rego, of letters, digits and _.-",
                got=repr(path[:80]),
            )
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        problems.append(Problem(pointer, "holds a lone surrogate, which is no text"))
    if "\x00" in text:
        problems.append(Problem(pointer, "holds a NUL character"))
    return problems
