"""Jobs: submit once, follow to the end, fetch what came of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any, cast

from qcos.base.errors import Integrity, Unavailable
from qcos.client.events import Decoder, Event
from qcos.client.model import FINAL_STATES, Decision, Job, Json, Page, Step
from qcos.client.transport import Transport, quoted

_SILENCE_S = 30.0  # seconds without a byte after which a stream of steps is opened anew
_REOPENINGS = 8  # times in a row that a stream cannot be opened before the caller is told; about 8 s


class Jobs:
    """``/jobs`` and what hangs on a job."""

    def __init__(
        self, transport: Transport, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._sleep = sleep

    def submit(self, spec: Json, *, key: str | None = None) -> Job:
        """Submit a Job Spec (R8.2). Sent again under the same key when the answer is lost, so it is never
        submitted twice.

        Args:
            spec: The Job Spec.
            key: Idempotency key, at most 255 characters; without one, ``idempotency_key`` of the spec, else
                one made for this call. A caller that may itself be restarted gives one of its own.

        Raises:
            Denied: Policy denies the job; ``details["decision"]`` holds the reasons.
            Invalid: The spec is wrong; ``problems`` points to every fault.
        """
        chosen = key or spec.get("idempotency_key") or f"qcos-{secrets.token_hex(16)}"
        return cast(Job, self._transport.call("POST", "jobs", json=spec, key=chosen).json())

    def validate(self, spec: Json) -> Json:
        """Check a Job Spec and read its circuits without submitting it; raises `Invalid` with every fault."""
        return cast(
            Json, self._transport.call("POST", "jobs/validate", json=spec, key=secrets.token_hex(16)).json()
        )

    def estimate(self, spec: Json) -> Json:
        """Return where the job would run and the most it would cost."""
        return cast(
            Json, self._transport.call("POST", "estimates", json=spec, key=secrets.token_hex(16)).json()
        )

    def get(self, job_id: str) -> Job:
        """Return a job; raises `NotFound`."""
        return cast(Job, self._get(f"jobs/{quoted(job_id)}"))

    def page(
        self,
        *,
        state: str | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[Job]:
        """Return one page of the jobs, newest first."""
        params = {"state": state, "project": project, "after": after, "limit": limit}
        return cast(Page[Job], self._transport.call("GET", "jobs", params=params).json())

    def each(self, *, state: str | None = None, project: str | None = None) -> Iterator[Job]:
        """Return all jobs, newest first, fetched page by page."""
        after: str | None = None
        while True:
            page = self.page(state=state, project=project, after=after)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def result(self, job_id: str) -> Json:
        """Return the counts of a collected job; raises `NotFound` before that."""
        return cast(Json, self._get(f"jobs/{quoted(job_id)}/result"))

    def result_document(self, job_id: str) -> bytes:
        """Return the exact bytes of the result: their SHA-256 is the evidence's ``output_hash``."""
        return self._transport.call("GET", f"jobs/{quoted(job_id)}/result").body

    def spec_document(self, job_id: str) -> bytes:
        """Return the exact bytes of the Job Spec: their SHA-256 is the evidence's ``input_hash``."""
        return self._transport.call("GET", f"jobs/{quoted(job_id)}/spec").body

    def decision(self, job_id: str) -> Decision:
        """Return what policy decided about a job, with its reasons (R3.6)."""
        return cast(Decision, self._get(f"jobs/{quoted(job_id)}/decision"))

    def cancel(self, job_id: str) -> Job:
        """Ask for a job to be cancelled; its reservation is released."""
        path = f"jobs/{quoted(job_id)}/cancel"
        return cast(Job, self._transport.call("POST", path, key=secrets.token_hex(16)).json())

    def evidence(self, job_id: str, *, wait_s: float = 0) -> bytes:
        """Return the exact bytes of a job's evidence bundle.

        Args:
            job_id: The job.
            wait_s: Seconds the server may wait for the ledger's proof to be there to be attached.
        """
        path = f"jobs/{quoted(job_id)}/evidence"
        params = {"wait": f"{wait_s:g}"} if wait_s > 0 else None
        return self._transport.call("GET", path, params=params, timeout_s=wait_s + 30.0).body

    def renew_evidence(
        self,
        *,
        before: str | None = None,
        everything: bool = False,
        hash_name: str | None = None,
        after: str = "",
        reason: str = "",
    ) -> Json:
        """Renew the time stamps of evidence: a governed act, one token for many bundles.

        Args:
            before: Those whose certificates expire until this instant (RFC 3339); as the server's duty by default.
            everything: All of them.
            hash_name: Also those that rest on an older hash than this (``sha3-512``): they begin a new chain.
            after: ``next`` of the answer before; ask until it is null.
            reason: Kept in the ledger.
        """
        body: Json = {"all": everything, "after": after, "reason": reason}
        body |= {"before": before} if before is not None else {}
        body |= {"hash": hash_name} if hash_name is not None else {}
        return cast(
            Json, self._transport.call("POST", "evidence/renewals", json=body, timeout_s=600.0).json()
        )

    def materials(self, job_id: str) -> list[Json]:
        """Return what a job's evidence commits to: ``name``, ``digest``, and whether it is ``kept``."""
        return cast(list[Json], self._get(f"jobs/{quoted(job_id)}/evidence/materials")["items"])

    def material(self, job_id: str, name: str) -> bytes:
        """Return the exact bytes of one of `materials`; their SHA-256 is what the evidence names."""
        path = "/".join(quoted(part) for part in name.split("/"))
        return self._transport.call("GET", f"jobs/{quoted(job_id)}/evidence/materials/{path}").body

    def cose(self, job_id: str) -> bytes:
        """Return the evidence's statement as a SCITT Signed Statement (COSE_Sign1), signed by the server for this call."""
        path = f"jobs/{quoted(job_id)}/evidence/cose"
        return self._transport.call("POST", path, accept="application/scitt-statement+cose").body

    def steps(self, job_id: str, *, timeout_s: float | None = None) -> Iterator[Step]:
        """Return the steps of a job as they happen, each once; ends with the job.

        A stream that breaks is opened again behind the last event; steps that come again are left out.

        Args:
            job_id: The job.
            timeout_s: Seconds for the whole of it; None waits as long as it takes.

        Raises:
            Unavailable: ``client.wait`` when the time is up; ``client.no_answer`` or ``client.unreachable``
                when the server stays away.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        seen: set[tuple[int, str]] = set()
        last_id = ""
        barren = away = 0  # openings in a row that brought no step, that did not succeed
        while away <= _REOPENINGS:
            barren, away = barren + 1, away + 1
            try:
                for event in self._events(job_id, last_id, self._left_s(job_id, deadline)):
                    self._left_s(job_id, deadline)
                    away = 0
                    if event is None:
                        continue
                    last_id = event.id
                    if event.event == "end":
                        return
                    if event.event == "step" and (mark := _mark(step := _step(event))) not in seen:
                        seen.add(mark)
                        barren = 0
                        yield step
            except Unavailable as error:
                if error.code == "client.wait" or away > _REOPENINGS:
                    raise
            self._sleep(min(0.05 * 2.0 ** min(barren, 5), self._left_s(job_id, deadline)))

    def wait_for(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Return a job once it is denied, completed, failed or cancelled.

        Raises:
            Unavailable: ``client.wait`` when the time is up; the job goes on.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        pause_s = 0.05
        for _ in self.steps(job_id, timeout_s=timeout_s):
            pass
        while (job := self.get(job_id))["state"] not in FINAL_STATES:
            self._sleep(min(pause_s, self._left_s(job_id, deadline)))
            pause_s = min(1.0, pause_s * 2)
        return job

    def _events(self, job_id: str, last_id: str, left_s: float) -> Iterator[Event | None]:
        """Return None once the stream is open, then its events."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        decoder = Decoder()
        path = f"jobs/{quoted(job_id)}/events"
        with self._transport.stream(path, headers=headers, timeout_s=min(_SILENCE_S, left_s)) as chunks:
            yield None
            for chunk in chunks:
                yield from decoder.feed(chunk)

    def _left_s(self, job_id: str, deadline: float | None) -> float:
        if deadline is None:
            return _SILENCE_S
        left = deadline - self._clock()
        if left <= 0:
            raise Unavailable(
                "client.wait",
                "the job is not finished yet",
                subject=job_id,
                hint="it goes on: ask again later",
            )
        return left

    def _get(self, path: str) -> Any:  # Any: a JSON value
        return self._transport.call("GET", path).json()


def _step(event: Event) -> Step:
    try:
        step = json.loads(event.data)
        _mark(step)
    except (ValueError, TypeError, KeyError):
        raise Integrity("client.step", "a step is not readable", got=event.data[:100]) from None
    return cast(Step, step)


def _mark(step: Step) -> tuple[int, str]:
    return int(step["n"]), str(step["at"])
