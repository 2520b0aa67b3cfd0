"""What encryption at rest costs a job: processor time (user and system) of each place that seals or opens.

    python benchmarks/secrecy_bench.py

The floor in the same run is AES-256-GCM over the same bytes, with a key and a nonce that are there already.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qcos.secrecy.envelope import TenantKey

TURNS = 20_000
OWNER = "qcos-job-2026-01-09-a7f3"
SPEC, RESULT, BUNDLE = os.urandom(1_500), os.urandom(300), os.urandom(20_000)


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(do: Callable[[], object]) -> float:
    """Return microseconds of processor time of one call."""
    do()
    begun = processor_s()
    for _ in range(TURNS):
        do()
    return (processor_s() - begun) / TURNS * 1e6


def main() -> None:
    tenant, bare, nonce = TenantKey(os.urandom(32), UUID(int=1), 1), AESGCM(os.urandom(32)), os.urandom(12)
    key, wrapped = tenant.new_payload_key(OWNER)
    sealed = key.seal("spec", SPEC)
    cases: dict[str, tuple[Callable[[], object], bytes]] = {
        "admit: new key, wrap it, seal the spec (1.5 kB)": (
            lambda: tenant.new_payload_key(OWNER)[0].seal("spec", SPEC),
            SPEC,
        ),
        "claim: unwrap, open the spec": (lambda: tenant.unwrap(wrapped, OWNER).open("spec", sealed), SPEC),
        "collect: unwrap, seal the result (300 B)": (
            lambda: tenant.unwrap(wrapped, OWNER).seal("result", RESULT),
            RESULT,
        ),
        "settle: unwrap, seal the bundle (20 kB)": (
            lambda: tenant.unwrap(wrapped, OWNER).seal("bundle", BUNDLE),
            BUNDLE,
        ),
    }
    total = floor = 0.0
    print(f"{'':<50}{'µs':>8}{'floor':>8}{'ratio':>7}")
    for name, (do, data) in cases.items():
        took, least = measure(do), measure(lambda data=data: bare.encrypt(nonce, data, b""))
        total, floor = total + took, floor + least
        print(f"{name:<50}{took:>8.1f}{least:>8.1f}{took / least:>7.1f}")
    print(f"{'a job':<50}{total:>8.1f}{floor:>8.1f}{total / floor:>7.1f}")


if __name__ == "__main__":
    main()
