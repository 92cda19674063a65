"""Exception handlers: which problem each exception becomes, so that no route catches any."""

import os
from typing import Any, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from app.asgi.problem import MOST_ERRORS, explain, render
from app.asgi.request_body import Invalid
from core.store.db import is_full
from core.store.object_store import StorageUnavailable
from core.system import disk
from core.system.faults import OF_THE_MACHINE
from topwork.errors import (
    DiskFull,
    Forbidden,
    InvalidField,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
    TopworkError,
    Unavailable,
    UnsupportedMedia,
)

log = structlog.get_logger()
BY_STATUS: dict[int, type[TopworkError]] = {
    error.status: error
    for error in (MalformedRequest, Forbidden, NotFound, RequestTooLarge, UnsupportedMedia)
}


# SQLSTATE: read-only, out of resources, not now, operator intervention, system error. See
# https://www.postgresql.org/docs/current/errcodes-appendix.html
REFUSALS = ("25006", "53", "55", "57", "58")


class Internal(TopworkError):
    """This is a mistake in Topwork."""

    status, code = 500, "internal"
    hint = "Report it with this request_id and the service's log."


def install(app: FastAPI) -> None:
    """Register a handler for each kind of exception."""
    handlers: dict[type[Exception], Any] = {
        TopworkError: _known,
        RequestValidationError: _invalid,
        Invalid: _invalid_here,
        HTTPException: _http,
        OperationalError: _database,
        InterfaceError: _database,
        PoolTimeout: _database,
        DBAPIError: _refused_by_database,
        StorageUnavailable: _storage,
        OSError: _operating_system,
        ClientDisconnect: _gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def internal(request: Request, error: Exception) -> Response:
    """Answer an exception that nobody foresaw; the caller logs it."""
    del error  # Its text may hold anything; it belongs into the log only.
    return render(request, Internal())


async def _known(request: Request, error: TopworkError) -> Response:
    return render(request, error)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    for detail in errors:
        if detail["type"] == "json_invalid":
            return render(request, MalformedRequest(f"not valid JSON: {detail['ctx']['error']}"))
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    return _explained(request, errors, model)


async def _invalid_here(request: Request, error: Invalid) -> Response:
    return _explained(request, error.errors, error.model)


def _explained(request: Request, details: Any, model: Any) -> Response:
    known = isinstance(model, type) and issubclass(model, BaseModel)
    errors = explain(details[:MOST_ERRORS], model if known else None)
    first = errors[0]
    named = f"{first['param']}: {first['message']}" if first["param"] else first["message"]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    problem = InvalidField(named + more, param=first["param"], hint=first["hint"])
    return render(request, problem, errors=errors)


async def _http(request: Request, error: HTTPException) -> Response:
    cause = error.__cause__
    if isinstance(cause, TopworkError):  # FastAPI wraps what reading the body raised.
        return render(request, cause)
    if isinstance(cause, ClientDisconnect):
        return await _gone(request, cause)
    if error.status_code == MethodNotAllowed.status:
        return render(request, MethodNotAllowed(), headers={"Allow": _methods(request) or "GET"})
    known = BY_STATUS.get(error.status_code, MalformedRequest)
    return render(request, known(), headers=cast("dict[str, str] | None", error.headers))


def _methods(request: Request) -> str:
    """Return every method of every route at this path; Starlette names only the first's.

    A path without parameters is taken before one with them (OpenAPI 3.1, Paths Object).
    """
    routes = [
        route
        for route in request.app.state.routes
        if route.matches(request.scope)[0] is not Match.NONE
    ]
    same = [route for route in routes if route.path == request.scope["path"]]
    return ", ".join(sorted({method for route in same or routes for method in route.methods}))


async def _database(request: Request, error: Exception) -> Response:
    log.warning("database.unavailable", error=str(error))
    if is_full(error):
        return render(request, DiskFull())
    return render(request, Unavailable("the database does not answer"))


async def _refused_by_database(request: Request, error: DBAPIError) -> Response:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if error.connection_invalidated or state.startswith(REFUSALS):
        return await _database(request, error)
    if isinstance(error, DataError):
        log.warning("database.value_refused", error=str(error.orig))
        return render(request, InvalidField("the database cannot hold a value of this request"))
    raise error


async def _storage(request: Request, error: StorageUnavailable) -> Response:
    log.warning("storage.unavailable", error=str(error))
    if is_full(error):
        return render(request, DiskFull())
    return render(request, Unavailable("the object storage does not answer"))


async def _operating_system(request: Request, error: OSError) -> Response:
    if disk.is_full(error):
        return render(request, DiskFull())
    if error.errno in OF_THE_MACHINE:
        log.warning("machine.refused", error=str(error))
        why = os.strerror(error.errno or 0)
        return render(request, Unavailable(f"the machine of the service refused this: {why}"))
    raise error


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    # Nobody reads this; nginx's number for "client closed request" goes to the access log.
    return Response(status_code=499)
