"""Errors as RFC 9457 problem documents: the one table from families to statuses."""

from __future__ import annotations

import json
import logging
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from qcos.base.errors import Invalid, NotFound, Problem, QcosError

STATUS = {
    "invalid": 400,
    "not_found": 404,
    "conflict": 409,
    "denied": 403,
    "limit": 422,
    "unavailable": 503,
    "driver": 502,
    "integrity": 500,
}
_TITLES = {
    "invalid": "The request is not valid",
    "not_found": "Not found",
    "conflict": "Conflict with the present state",
    "denied": "Denied",
    "limit": "A limit is reached",
    "unavailable": "Not available now",
    "driver": "The vendor's runtime failed",
    "integrity": "Something does not agree",
}
_log = logging.getLogger("qcos.api")


def problem(error: QcosError, status: int = 0) -> Response:
    """Return an error as ``application/problem+json``, with the status of its family unless another is given."""
    status = (
        status
        if status
        else 401
        if error.code.startswith("auth.")
        else 413
        if error.code.endswith(".size")
        else STATUS.get(error.family, 500)
    )
    body = {
        "type": f"urn:qcos:problem:{error.code}",
        "title": _TITLES.get(error.family, "Error"),
        "status": status,
        "detail": str(error),
        **error.as_dict(),
    }
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="qcos"'
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Make the application answer every error with a problem document."""

    def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, QcosError)  # noqa: S101 - registered for it
        return problem(error)

    def validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        return problem(
            Invalid(
                "request.invalid", "the request is not valid", problems=[_problem(e) for e in error.errors()]
            )
        )

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        if isinstance(error.__cause__, QcosError):  # raised while the framework read the body
            return problem(error.__cause__)
        if error.status_code == 404:
            return problem(
                NotFound(
                    "route.unknown", "there is no such resource", subject=request.url.path, hint="see /docs"
                )
            )
        made = Invalid(f"http.{error.status_code}", str(error.detail), subject=request.url.path)
        return problem(made, error.status_code)

    def unkept(_: Request, __: Exception) -> Response:
        return problem(
            Invalid(
                "request.text",
                "the request holds a text that cannot be kept",
                expected="text without NUL characters and halves of surrogate pairs",
            )
        )

    def unexpected(request: Request, error: Exception) -> Response:
        _log.error("unexpected error in %s %s", request.method, request.url.path, exc_info=error)
        return problem(
            QcosError(
                "server.bug", "an unexpected error; it is in the server's log", hint="report it with the time"
            )
        )

    app.add_exception_handler(QcosError, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(sa.exc.DataError, unkept)  # PostgreSQL keeps no NUL, in text or in JSON
    app.add_exception_handler(UnicodeEncodeError, unkept)
    app.add_exception_handler(Exception, unexpected)


def _problem(error: Any) -> Problem:  # Any: pydantic's error dictionary
    where = error["loc"]
    pointer = "/" + "/".join(str(part) for part in where[1:])
    return Problem(
        f"{pointer}",
        error["msg"],
        expected=error["type"],
        got=repr(error.get("input"))[:80],
        hint=f"in the request's {where[0]}",
    )
