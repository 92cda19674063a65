"""What a call can raise: the service's own error classes, found again by their code.

`topwork.errors.TopworkError` is the root, so `except ModelNotFound` means the same on both sides.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx2

from topwork.errors import TopworkError


class Unreachable(TopworkError):
    """The service does not answer."""

    status, code = 503, "unreachable"
    hint = "Start it, or name another one with --url or TOPWORK_URL."


class JobFailed(TopworkError):
    """The job did not succeed."""

    status, code = 422, "job_failed"


class ServiceError(TopworkError):
    """The service answered with an error of a code that this client does not know."""


def from_response(response: httpx2.Response) -> TopworkError:
    """Return the error that a problem+json answer describes, with its `request_id` and `errors`."""
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        body = None
    problem: dict[str, Any] = body if isinstance(body, dict) else {}
    code = str(problem.get("code") or f"http_{response.status_code}")
    message = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    known = {kind.code: kind for kind in _tree(TopworkError)}
    error = known.get(code, ServiceError)(
        message, param=problem.get("param"), hint=problem.get("hint")
    )
    return describe(
        error,
        code=code,
        status=response.status_code,
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
        errors=problem.get("errors") or [],
    )


def describe(error: TopworkError, **facts: object) -> TopworkError:
    """Set what only this occurrence of an error knows."""
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def _tree(root: type[TopworkError]) -> Iterator[type[TopworkError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _tree(kind)
