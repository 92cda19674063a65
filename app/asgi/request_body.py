"""Request bodies read strictly: size first, then JSON that every database and client can hold."""

import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers

from app.asgi.memory_budget import Admission
from app.asgi.problem import nearest
from topwork.errors import (
    InvalidField,
    MalformedRequest,
    RequestTooLarge,
    TopworkError,
    UnsupportedMedia,
)

Shape = TypeVar("Shape", bound=BaseModel)
JSON = "application/json"
DEEPEST = 20
MOST_VALUES = 100_000
COPIES = 4  # Of a byte of roomy JSON: pieces, the whole, its text and what it is decoded to.
AT_ONCE = 64 * 1024  # Bytes of JSON that are decoded faster than a thread could take over.


class Invalid(Exception):
    """A body that does not have its shape; carries what pydantic found.

    Args:
        errors: `ValidationError.errors()`.
        model: The shape, for did-you-mean hints.
    """

    def __init__(self, errors: list[Any], model: type[BaseModel]) -> None:
        super().__init__(errors, model)
        self.errors = errors
        self.model = model


class StrictRequest(Request):
    """A request whose body is bounded and whose JSON is RFC 8259 without its known traps."""

    factor = 1
    most_values = MOST_VALUES
    arrive: Callable[[int], None] | None = None  # Told the size of each piece that comes.

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body's pieces as they come."""
        async for piece in super().stream():
            if self.arrive is not None:
                self.arrive(len(piece))
            yield piece

    async def body(self) -> bytes:
        """Return the whole body, at most `max_request_bytes` of it, times the route's factor."""
        return await self.bounded(self.factor * self.app.state.settings.max_request_bytes)

    async def bounded(self, limit: int) -> bytes:
        """Return the whole body or raise RequestTooLarge, at the latest `limit` bytes in."""
        if not hasattr(self, "_body"):
            self._body = await self.taken(limit)
        return self._body

    async def taken(self, limit: int) -> bytes:
        """Return what `bounded` returns without keeping it for a second call."""
        check_length(self.headers, limit)
        pieces, size = [], 0
        async for piece in self.stream():
            size += len(piece)
            if size > limit:
                raise RequestTooLarge(f"the body is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def json(self) -> Any:
        """Return the decoded body.

        Raises:
            MalformedRequest: It is not JSON, or holds what not everyone can store.
        """
        raw = await self.body()
        if len(raw) <= AT_ONCE:
            return decode(raw, self.most_values)
        return await anyio.to_thread.run_sync(decode, raw, self.most_values)


class StrictRoute(APIRoute):
    """A route that reads bodies strictly and knows all its query parameters."""

    factor = 1
    most_values = MOST_VALUES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        known = {field.alias for field in _query_fields(self.dependant)}

        async def strictly(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    message = f"there is no query parameter {name!r} here"
                    raise InvalidField(message, param=name, hint=nearest(name, known))
            strict = StrictRequest(request.scope, request.receive)
            strict.factor, strict.most_values = self.factor, self.most_values
            with self.counted(strict):
                return await handle(strict)

        return strictly

    def counted(self, _request: StrictRequest) -> AbstractContextManager[object]:
        """Count what a request holds in memory until it is answered; small bodies are not."""
        return nullcontext()


class RoomyRoute(StrictRoute):
    """A route whose JSON may name many images."""

    factor = 256
    most_values = 600_000

    @contextmanager
    def counted(self, request: StrictRequest) -> Iterator[None]:
        """Count the body as it comes: 429 or 503 where its owner's, or all, are too many."""
        admission: Admission = request.app.state.service.roomy
        with admission.body(request.state.caller.owner) as held:
            held.copies = COPIES
            request.arrive = held.arrive
            yield


def check_length(
    headers: Headers, limit: int, too_large: type[TopworkError] = RequestTooLarge
) -> None:
    """Refuse a body that announces itself as too large before reading any of it."""
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(f"the body is larger than {limit} bytes")


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(request: Request, *accepted: str) -> UnsupportedMedia:
    """Return the error that names what the route reads."""
    given = media_type(request) or "a body without Content-Type"
    return UnsupportedMedia(
        f"this address does not read {given}", hint="Send " + ", ".join(accepted)
    )


def decode(raw: bytes | str, most: int = MOST_VALUES) -> Any:
    """Decode JSON; no NaN, no duplicate names, no lone surrogates, no NUL, no deep nesting.

    Raises:
        MalformedRequest: With the place or the reason.
        RequestTooLarge: It may hold more than about `most` values. What begins one is counted, in
            texts, too: three bytes of a body can cost a hundred once they are decoded.
    """
    written = raw.encode("utf-8", "replace") if isinstance(raw, str) else raw
    if sum(written.count(begin) for begin in (b",", b"[", b"{")) > most:
        raise RequestTooLarge(f"the body holds more than {most} values")
    try:
        value = json.loads(raw, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
        _check(value, DEEPEST)
    except RecursionError:
        raise MalformedRequest("not valid JSON: nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError and our own.
        raise MalformedRequest(f"not valid JSON: {error}") from None
    return value


def shaped_as(shape: type[Shape], body: object) -> Shape:
    """Return a decoded body as its shape, or raise Invalid with one entry for each wrong field."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise Invalid(list(error.errors()), shape) from None


def members(body: object) -> dict[str, Any]:
    """Return a decoded body that has to be an object, or raise MalformedRequest."""
    if not isinstance(body, dict):
        raise MalformedRequest("the body is not a JSON object")
    return body


def _query_fields(dependant: Any) -> list[Any]:
    fields = list(dependant.query_params)
    for inner in dependant.dependencies:
        fields += _query_fields(inner)
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    by_name = dict(pairs)
    if len(by_name) < len(pairs):
        message = "an object names a member twice"
        raise ValueError(message)
    return by_name


def _no_constant(name: str) -> Any:
    message = f"{name} is not a number"
    raise ValueError(message)


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        message = "nested too deeply"
        raise ValueError(message)
    if isinstance(value, float) and not math.isfinite(value):
        message = "a number is too large"
        raise ValueError(message)
    if isinstance(value, str):
        _check_text(value)
    if isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth - 1)
    if isinstance(value, list):
        for member in value:
            _check(member, depth - 1)


def _check_text(text: str) -> None:
    text.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair.
    if "\0" in text:
        message = "text contains a NUL character"
        raise ValueError(message)
