"""Turns whatever a handler raised into one answer: a problem document, or a page for people."""

from __future__ import annotations

import json

from quart import Request, Response, current_app
from werkzeug.exceptions import HTTPException

from vclone_core.errors import (
    Internal,
    Invalid,
    NotFound,
    TooLarge,
    VcloneError,
    WrongMethod,
)
from vclone_core.log import get_log
from vclone_core.renderings import render_problem

log = get_log(__name__)


def to_vclone_error(error: Exception, request: Request, request_id: str) -> VcloneError:
    """Return `error` as one of ours. What is not is a bug: it is logged whole, and shown as nothing but an id."""
    if isinstance(error, VcloneError):
        return error
    if isinstance(error, HTTPException):
        if error.code == 404:
            return NotFound(what="address")
        if error.code == 405:
            return WrongMethod(method=request.method, allow=", ".join(allowed_methods(request)))
        if error.code == 413:
            return TooLarge(what="The body of this request", limit="what this address takes")
        if error.code is not None and 400 <= error.code < 500:
            return Invalid(what=error.name.lower())
    log.error("request.crashed", method=request.method, exc_info=error)
    return Internal(id=request_id)


def allowed_methods(request: Request) -> list[str]:
    """Return what the address of a request answers to: of several routes that fit, the most particular one."""
    adapter = current_app.url_map.bind("")
    found: dict[str, int] = {}
    for method in adapter.allowed_methods(request.path):
        rule, _ = adapter.match(request.path, method=method, return_rule=True)
        found[method] = len(rule.arguments)
    return sorted(method for method, count in found.items() if count == min(found.values()))


def problem_response(error: VcloneError, request_id: str) -> Response:
    """Return the error as a problem document (RFC 9457)."""
    response = Response(
        json.dumps(render_problem(error, request_id), ensure_ascii=False),
        status=error.status,
        content_type="application/problem+json",
    )
    if error.status == 405 and error.facts.get("allow"):
        response.headers["allow"] = error.facts["allow"]
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    add_retry_after(response, error)
    return response


def add_retry_after(response: Response, error: VcloneError) -> None:
    """Say when it is worth trying again, where we know."""
    if error.status == 503:
        response.headers["retry-after"] = "1"
    elif (seconds := error.facts.get("retry_after_s")) is not None:
        response.headers["retry-after"] = str(seconds)
