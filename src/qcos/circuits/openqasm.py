"""Linear check of a program's text, before any parser sees it.

Every OpenQASM parser can be made to hang, crash or read files by a few kilobytes of text, and two parsers
may see different programs in the same bytes. What follows looks only at characters, never recurses, and
refuses what is dangerous (``include`` of a file, deep nesting) or read differently by different parsers
(nested comments, lone carriage returns, pragmas), so that the facts that are governed are those of the
program that runs. It returns the text with comments blanked out, all positions kept.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate
from typing import Final, NoReturn

from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_NESTING, MAX_QUBITS, MAX_SOURCE_BYTES, MAX_UNARY_RUN
from qcos.circuits.gates import LIBRARIES
from qcos.circuits.model import FORMATS

MAX_WORD: Final = 255  # characters of an identifier or number; longer integers cost quadratic time to convert

_COMMENT_OR_STRING = re.compile(r'//|/\*|"')
_STRING = re.compile(r'"([^"\n]*)"')
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_FOREIGN = re.compile(r"[#?\\`']")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_LONG_WORD = re.compile(rf"\w{{{MAX_WORD + 1}}}")
_UNARY = re.compile(rf"[-~!]{{{MAX_UNARY_RUN + 1}}}".encode())
_REGISTER = re.compile(
    r"\b(?:(?:qubit|bit)\s*|(?:qreg|creg)\s+\w+\s*)\[\s*([\d_]+|0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+)\s*\]"
)
_INCLUDE = re.compile(r"\binclude\b")
_INCLUDED = re.compile(rf'\s*"({"|".join(map(re.escape, LIBRARIES))})"\s*;')
_BITSTRING = re.compile(r"[01](?:_?[01])*")
_REFUSED_WORDS = re.compile(r"(?<![\w.$])(defcalgrammar|defcal|cal|pragma|extern)(?!\w)|@(?=\w)")
_NOT_BRACKETS = bytes(b for b in range(256) if b not in b"()[]{}")
_STEP = {ord(c): 1 for c in "([{"} | {ord(c): -1 for c in ")]}"}
_SYMBOLS = frozenset("πτℇµμ")  # constants of OpenQASM 3 and the micro sign of its duration unit
_REASONS = {
    "pragma": "a pragma means something else to each vendor",
    "extern": "what an extern function does cannot be known",
    "@": "an annotation means something else to each vendor; before an operand write a blank after @",
}


def check(source: bytes, format: str) -> str:
    """Check a program's text in time linear in its length.

    Args:
        source: The program as it came.
        format: One of `FORMATS`.

    Returns:
        The text with every comment replaced by blanks; lines and columns are those of the source.

    Raises:
        Limit: ``circuit.size``, ``circuit.nesting``, ``circuit.unary``, ``circuit.word``, ``circuit.qubits``.
        Invalid: ``circuit.format``, ``circuit.utf8``, ``circuit.character``, ``circuit.comment``,
            ``circuit.string``,
            ``circuit.include``, ``circuit.unsupported``, ``circuit.empty``.
    """
    if format not in FORMATS:
        raise Invalid(
            "circuit.format", "unknown circuit format", expected=" or ".join(FORMATS), got=format[:50]
        )
    if len(source) > MAX_SOURCE_BYTES:
        raise Limit(
            "circuit.size",
            "the program is too large",
            expected=f"at most {MAX_SOURCE_BYTES} bytes",
            got=f"{len(source)} bytes",
            hint="split it, or write repetitions as loops",
        )
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("circuit.utf8", "the program is not UTF-8 text", got=f"byte {error.start}") from None
    _check_characters(text)
    bare = _without_comments(text)
    _check_words(bare)
    _check_includes(bare)
    _check_nesting(bare)
    _check_registers(bare)
    if not bare.strip():
        raise Invalid("circuit.empty", "the program is empty", expected=f"a {format} program")
    return bare


def line_of(text: str, position: int) -> int:
    """Return the line, counted from one, of a position in the text."""
    return text.count("\n", 0, position) + 1


def _refuse(code: str, message: str, text: str, position: int, *, got: str = "", hint: str = "") -> NoReturn:
    raise Invalid(code, message, subject=f"line {line_of(text, position)}", got=got[:80], hint=hint)


def _check_characters(text: str) -> None:
    if found := _CONTROL.search(text):
        what = "a carriage return alone" if found[0] == "\r" else f"U+{ord(found[0]):04X}"
        _refuse(
            "circuit.character",
            "a control character",
            text,
            found.start(),
            got=what,
            hint="save it as plain UTF-8 text",
        )
    if text.isascii():
        return
    for found in _NON_ASCII.finditer(text):
        if unicodedata.category(found[0]) in ("Cf", "Cc", "Zl", "Zp", "Cn", "Co"):
            _refuse(
                "circuit.character",
                "an invisible character",
                text,
                found.start(),
                got=f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip(),
                hint="save it without a byte order mark" if found.start() == 0 else "remove it",
            )


def _without_comments(text: str) -> str:
    parts: list[str] = []
    position = 0
    while found := _COMMENT_OR_STRING.search(text, position):
        start = found.start()
        parts.append(text[position:start])
        if found[0] == '"':
            end = _string_end(text, start)
            parts.append(text[start:end])
        elif found[0] == "//":
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
            parts.append(" " * (end - start))
        else:
            end = _comment_end(text, start)
            parts.append("\n".join(" " * len(line) for line in text[start:end].split("\n")))
        position = end
    parts.append(text[position:])
    return "".join(parts)


def _string_end(text: str, start: int) -> int:
    found = _STRING.match(text, start)
    if not found:
        _refuse("circuit.string", "a string that does not end on its line", text, start)
    content = found[1]
    if content not in LIBRARIES and not (_BITSTRING.fullmatch(content)):
        included = text[:start].rstrip().endswith("include") or "/" in content
        code = "circuit.include" if included else "circuit.string"
        message = "only the standard files may be included" if included else "a string that is no bit string"
        _refuse(
            code,
            message,
            text,
            start,
            got=f'"{content}"',
            hint=f"expected {' or '.join(LIBRARIES)}, or a bit string",
        )
    return found.end()


def _comment_end(text: str, start: int) -> int:
    end = text.find("*/", start + 2)
    if end < 0:
        _refuse("circuit.comment", "a comment that does not end", text, start)
    if (inner := text.find("/*", start + 2, end + 1)) >= 0:
        _refuse(
            "circuit.comment",
            "a comment within a comment",
            text,
            inner,
            hint="parsers disagree where it ends",
        )
    return end + 2


def _check_words(bare: str) -> None:
    if found := _FOREIGN.search(bare):
        hint = "pragmas are not accepted" if found[0] == "#" else ""
        _refuse(
            "circuit.character",
            "a character that OpenQASM does not use",
            bare,
            found.start(),
            got=found[0],
            hint=hint,
        )
    if not bare.isascii():
        for found in _NON_ASCII.finditer(bare):
            if found[0] not in _SYMBOLS and unicodedata.category(found[0])[0] != "L":
                got = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip()
                _refuse(
                    "circuit.character",
                    "a character that OpenQASM does not use",
                    bare,
                    found.start(),
                    got=got,
                )
    if found := _LONG_WORD.search(bare):
        raise Limit(
            "circuit.word",
            "a name, number or bit string is too long",
            subject=f"line {line_of(bare, found.start())}",
            expected=f"at most {MAX_WORD} characters",
        )
    if found := _REFUSED_WORDS.search(bare):
        word = found[0]
        reason = _REASONS.get(word, "pulse calibration is not governed")
        _refuse("circuit.unsupported", f"{word!r} is not accepted: {reason}", bare, found.start())


def _check_includes(bare: str) -> None:
    for found in _INCLUDE.finditer(bare):
        if not _INCLUDED.match(bare, found.end()):
            _refuse(
                "circuit.include",
                "only the standard files may be included",
                bare,
                found.start(),
                got=bare[found.start() : found.start() + 60].split("\n")[0],
                hint=f'write include "{next(iter(LIBRARIES))}";',
            )


def _check_nesting(bare: str) -> None:
    dense = bare.encode()
    brackets = dense.translate(None, _NOT_BRACKETS)
    if brackets and max(accumulate(map(_STEP.__getitem__, brackets))) > MAX_NESTING:
        raise Limit(
            "circuit.nesting",
            "brackets and blocks are nested too deeply",
            expected=f"at most {MAX_NESTING} levels",
            hint="use intermediate constants or gate definitions",
        )
    if found := _UNARY.search(dense.translate(None, b" \t\r\n")):
        raise Limit(
            "circuit.unary",
            "too many signs in a row",
            expected=f"at most {MAX_UNARY_RUN}",
            got=found[0].decode() + "...",
        )


def _check_registers(bare: str) -> None:
    for found in _REGISTER.finditer(bare):
        try:
            size = int(found[1], 0)
        except ValueError:  # 007 and __: the parser names them
            continue
        if size > MAX_QUBITS:
            raise Limit(
                "circuit.qubits",
                "a register is too large",
                subject=f"line {line_of(bare, found.start())}",
                expected=f"at most {MAX_QUBITS}",
                got=str(size)[:40],
            )
