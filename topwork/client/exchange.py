"""One exchange with the service, whoever waits for it: limits, pauses, and what an answer means."""

import contextlib
import random
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from topwork.errors import InvalidField, RequestInFlight, ServiceError, TopworkError, from_dict

RETRIES = 2
RETRIED = frozenset({429, 503})
LONGEST_PAUSE = 60.0
MOST_DOUBLINGS = 6
CONNECT_SECONDS = 5.0
NOTHING_FOLLOWS = 204  # Status of an event stream of which everything was seen.

Json = dict[str, Any]
Shape = TypeVar("Shape", bound=BaseModel)


def options(url: str, key: str, timeout: float) -> Json:
    """Return what either of httpx2's clients needs for a service.

    Raises:
        InvalidField: No request can be made with this address or key.
    """
    if not key.isascii():
        raise InvalidField("The key holds a character that no HTTP header can carry.")
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidField(f"{url} is not the address of a service: {error}") from None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx2.Timeout(timeout, connect=CONNECT_SECONDS)
    return {"base_url": url.rstrip("/"), "headers": headers, "timeout": limits}


def headers_of(method: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request: a POST has a key, so that repeating it has no effect."""
    once = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
    return {**once, **given}


def error_of(response: httpx2.Response) -> TopworkError:
    """Return the error that a problem+json answer describes, with its `request_id` and `errors`."""
    try:
        body = response.json()
    except ValueError:
        body = None
    said: Json = {
        "code": f"http_{response.status_code}",
        "title": response.reason_phrase,
        "request_id": response.headers.get("x-request-id"),
        **(body if isinstance(body, dict) else {}),
    }
    return from_dict({**said, "status": response.status_code})


def is_worth_another_try(response: httpx2.Response, error: TopworkError) -> bool:
    """Tell whether the same request may be answered otherwise a little later."""
    return response.status_code in RETRIED or isinstance(error, RequestInFlight)


def read(shape: type[Shape], said: bytes | str | Json, url: str) -> Shape:
    """Return an answer as its shape; what a newer service has added to it is kept.

    Raises:
        ServiceError: Something else than Topwork answers at this address.
    """
    try:
        if isinstance(said, dict):
            return shape.model_validate(said, extra="allow")
        return shape.model_validate_json(said, extra="allow")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or shape.__name__
        message = f"What answers at {url} is not Topwork ({where}: {first['msg']})."
        raise ServiceError(message) from None


def pause(failures: int, retry_after: str | None = None) -> float:
    """Return seconds to wait: the service's own wish, else 0.5, 1, 2 ... with some jitter."""
    with contextlib.suppress(TypeError, ValueError):
        return min(LONGEST_PAUSE, float(retry_after or ""))
    return min(LONGEST_PAUSE, 0.5 * 2.0 ** min(failures, MOST_DOUBLINGS)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter.
