"""A process with limits of the kernel that gives every hostile input to every door, and prints a line for each.

Memory is limited for the whole process, processor time for each input: what exceeds it ends the process, and the last line says
which input it was.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
import tempfile
from pathlib import Path

from qcos.base.process import collect_rarely

from .doors import OTS, REFUSALS, doors

MEMORY = 1024**3  # bytes of address space
SECONDS = 20  # of processor time for one input at one door
ERROR_BYTES = 64 * 1024  # what one refusal may say
MIB = 1024**2


def inputs() -> dict[str, bytes]:
    """Return the hostile inputs; lengths are those at which a limit or an algorithm is met."""
    nested = b""
    for _ in range(10_000):
        nested = _tlv(0x30, nested)
    dash = "\u2014 ".encode()
    line = dash + b"qcos.test/ledger " + base64.b64encode(bytes(68)) + b"\n"
    head = b"qcos.test/ledger\n1\n" + base64.b64encode(bytes(32)) + b"\n\n"
    named = {
        "nothing": b"",
        "zeros": bytes(MIB),
        "ones": b"\xff" * MIB,
        "brackets": b"[" * (4 * MIB),
        "objects": b'{"a":' * (4 * MIB // 5),
        "closed brackets": b"[" * 50_000 + b"]" * 50_000,
        "brackets within the depth": b"[" + b",".join([b"[" * 60 + b"]" * 60] * 30_000) + b"]",
        "brackets in text": b'["' + b"[" * (2 * MIB) + b'"]',
        "backslashes": b'"' + b"\\" * (4 * MIB),
        "digits": b"9" * (4 * MIB),
        "a huge number": b'{"size":' + b"9" * 100_000 + b"}",
        "a number within the limit": b'{"index":' + b"9" * 4_000 + b"}",
        "exponents": b'{"size":1e999,"index":-1E-999999999}',
        "no numbers": b'{"schema":NaN,"a":[Infinity,-Infinity]}',
        "a name twice": b'{"schema":1,"schema":1}',
        "many names": b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}",
        "a long name": b'{"' + b"n" * (3 * MIB) + b'":1}',
        "half characters": b'{"bundle_id":"\\ud800","schema":"qcos.evidence.erased/v1\\udfff"}',
        "no UTF-8": b'{"a":"\xed\xa0\x80\xff\xfe"}',
        "UTF-16": '{"schema":1}'.encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf{}",
        "lines": b"\n" * (4 * MIB),
        "spaces": b" " * (4 * MIB),
        "an erased bundle": b'{"schema":"qcos.evidence.erased/v1","bundle_id":' + b"[" * MIB,
        "an erased bundle of nulls": _erased(None),
        "an erased bundle of texts": _erased("x" * MIB),
        "an erased bundle of objects": _erased({"record": [[]] * 100_000}),
        "a trust document": json.dumps(_TRUST | {"evidence": [{}] * 50_000}).encode(),
        "a trust document of texts": json.dumps(
            _TRUST | {"timestamp": [{"certificate": "-----BEGIN" * 90_000}]}
        ).encode(),
        "a trust document of certificates": json.dumps(
            _TRUST | {"timestamp": [{"certificate": _PEM * 9_000}]}
        ).encode(),
        "signatures": (head + line * 100_000)[: 8 * MIB],
        "signatures within the limits": head + line * 100,
        "a long signature": head + dash + b"qcos.test/ledger " + base64.b64encode(bytes(150_000)) + b"\n",
        "a long name of a key": head + dash + b"n" * 200_000 + b" AAAAAAAAAAA=\n",
        "extension lines": head[:-1] + b"x\n" * 100_000 + b"\n" + line,
        "hashes of a proof": b"c2sp.org/tlog-proof@v1\nindex 0\n"
        + (base64.b64encode(bytes(32)) + b"\n") * 8_000
        + b"\n"
        + head
        + line,
        "an index": b"c2sp.org/tlog-proof@v1\nindex " + b"9" * 300_000 + b"\n\n" + head + line,
        "a large extra": b"c2sp.org/tlog-proof@v1\nextra " + b"A" * 350_000 + b"\nindex 0\n\n" + head + line,
        "an old size": b"old " + b"9" * 200_000 + b"\n\n" + head + line,
        "groups": b"".join(b"group g%d any g%d\n" % (n + 1, n) for n in range(30_000)),
        "a wide group": b"group g all " + b"a " * 200_000 + b"\nquorum g\n",
        "a threshold": b"group g " + b"9" * 200_000 + b" a\nquorum g\n",
        "base64": base64.b64encode(bytes(3 * MIB)),
        "entries": b"\0\0" * 2 * MIB,
        "a DER value without end": b"\x30\x80" * 10_000,
        "a DER length of 2^31": b"\x30\x84\x7f\xff\xff\xff" + bytes(100),
        "a DER length of 2^64": b"\x30\x88" + b"\xff" * 8 + bytes(100),
        "a DER length of 126 bytes": b"\x30\xfe" + b"\xff" * 200,
        "nested DER": nested,
        "many DER values": _tlv(0x30, b"\x05\x00" * 30_000),
        "a DER number": _tlv(0x30, _tlv(0x02, b"\x7f" * 60_000)),
        "a DER identifier": _tlv(0x30, _tlv(0x06, b"\xff" * 60_000 + b"\x7f")),
        "long DER tags": b"\x3f" + b"\xff" * 60_000,
        "a token's head": _tlv(
            0x30,
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
            + _tlv(0xA0, _tlv(0x30, b"\x02\x01\x03" * 15_000)),
        ),
        "a record of many stamps": _tlv(
            0x30, b"\x02\x01\x01" + _tlv(0x30, b"") + _tlv(0x30, _tlv(0x30, b"\x30\x00" * 300_000))
        ),
        "a wide hash tree": _tlv(
            0x30,
            b"\x02\x01\x01\x30\x00" + _tlv(0x30, _tlv(0x30, _tlv(0x30, _tlv(0xA2, b"\x30\x00" * 400_000)))),
        ),
        "forks of a proof": OTS + bytes(32) + b"\xff" * 48_000,
        "steps of a proof": OTS + bytes(32) + b"\x08" * 48_000,
        "doublings of a proof": OTS + bytes(32) + b"\xf3" * 48_000,
        "a varint": OTS + bytes(32) + b"\x00\x05\x88\x96\x0d\x73\xd7\x19\x01" + b"\xff" * 40_000,
        "branches of a proof": OTS + bytes(32) + b"\xff\xf0\x01a\x08" * 9_000,
        "nested RLP": b"\xc1" * 4_000,
        "an RLP length": b"\xff" + b"\xff" * 8 + bytes(100),
        "many RLP items": b"\xfa\x02\x00\x00" + b"\xc0" * 0x20000,
        "a roughtime count": b"ROUGHTIM" + b"\x0c\0\0\0" + b"\xff\xff\xff\x7f" + bytes(8),
        "roughtime offsets": b"ROUGHTIM" + b"\0\x01\0\0" + b"\x40\0\0\0" + b"\xff" * 252,
    }
    return named


_PEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
_TRUST = {"schema": "qcos.trust/v1", "origin": "o", "evidence": [], "ledger": [], "timestamp": []}


def _erased(value: object) -> bytes:
    document = dict.fromkeys(("bundle_id", "job_id", "erased", "proof"), value)
    return json.dumps({"schema": "qcos.evidence.erased/v1", **document}).encode()


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with tempfile.TemporaryDirectory() as folder:
        entered = doors(Path(folder))
        collect_rarely()  # most of the time went to looking for garbage among millions of lists
        for name, data in inputs().items():
            for door, found in entered.items():
                usage = resource.getrusage(resource.RUSAGE_SELF)
                resource.setrlimit(
                    resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + SECONDS, hard)
                )
                sys.stdout.write(f"{door}\t{name}\t")
                sys.stdout.flush()
                try:
                    outcome = "taken" if found.enter(data) else "refused"
                except REFUSALS as error:
                    size = len(json.dumps(getattr(error, "as_dict", dict)()))
                    outcome = "refused" if size < ERROR_BYTES else f"told in {size} bytes"
                except Exception as error:  # the finding: printed, so that all are seen in one run
                    outcome = f"{type(error).__name__}: {error}"[:200].replace("\n", " ")
                sys.stdout.write(ascii(outcome)[1:-1] + "\n")


if __name__ == "__main__":
    main()
