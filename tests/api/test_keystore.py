"""A key store that hangs takes no more than its share of the API's threads."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx

from qcos.base.limits import KEY_STORE_CROWD, KEY_STORE_WAITING
from qcos.keys.wrap import KeyWrapper
from qcos.secrecy.unlock import TenantKeys

from .conftest import Door


class Hanging:
    """A wrapping key whose store hangs until it is let."""

    def __init__(self, inner: KeyWrapper) -> None:
        self._inner = inner
        self.let = threading.Event()

    @property
    def key_id(self) -> str:
        return self._inner.key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        assert self.let.wait(600)
        return self._inner.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        assert self.let.wait(600)
        return self._inner.unwrap(wrapped, context)


def test_what_needs_no_key_is_served_while_the_key_store_hangs(door: Door) -> None:
    """R8.7: of forty who submit a few wait, the others are told when to come again, and everybody may read."""
    assert door.http.post("/jobs", json=door.spec()).status_code == 201  # its circuit was read, its key made
    store = Hanging(door.api.admission.tenant_keys._wrapper)
    keys = TenantKeys(door.api.engine, store, wait_s=600.0)
    admission = dataclasses.replace(door.api.admission, tenant_keys=keys)
    door.app.state.qcos = dataclasses.replace(door.api, admission=admission)

    def submit(_: int) -> httpx.Response:
        return door.http.post("/jobs", json=door.spec(), timeout=600)

    senders = KEY_STORE_CROWD + 10
    with ThreadPoolExecutor(senders) as pool:
        try:
            answers = as_completed([pool.submit(submit, n) for n in range(senders)])
            refused = [next(answers).result() for _ in range(senders - KEY_STORE_WAITING)]
            assert {answer.status_code for answer in refused} == {503}
            assert {answer.json()["code"] for answer in refused} == {"payload.keystore"}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
            assert door.http.get("/jobs").json()["items"]
            assert door.http.get("http://testserver/readyz").status_code == 200
        finally:
            store.let.set()
        assert [answer.result().status_code for answer in answers] == [201] * KEY_STORE_WAITING
