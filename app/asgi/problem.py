"""RFC 9457 bodies: one shape for every answer that is not a success."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import Request

from topwork.errors import RequestInFlight, TopworkError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MOST_ERRORS = 50


def render(
    request: Request,
    error: TopworkError,
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the problem+json answer to an error of the one tree."""
    request.scope.setdefault("state", {})["problem"] = error.code  # It is counted by.
    body = {
        **document(error),
        "instance": request.scope["path"],
        "request_id": request.scope.get("state", {}).get("request_id"),
        "errors": list(errors or error.errors)[:MOST_ERRORS],
    }
    extra = {**fields(error), **(headers or {})}
    return JSONResponse(body, status_code=error.status, headers=extra, media_type=MEDIA_TYPE)


def document(error: TopworkError) -> dict[str, Any]:
    """Return the members of an error's answer that do not depend on its request."""
    body = {
        "type": f"urn:topwork:problem:{error.code}",
        "title": (type(error).__doc__ or error.code).strip().splitlines()[0].rstrip("."),
        "status": error.status,
        "detail": error.message,
        **error.to_dict(),
    }
    del body["message"]  # It is `detail` here.
    return body


def fields(error: TopworkError) -> dict[str, str]:
    """Return the header fields that belong to an error."""
    status = error.status
    found: dict[str, str] = {}
    if status in (429, 503, 507) or isinstance(error, RequestInFlight):
        found["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.retry_after is not None:
        found["Retry-After"] = str(error.retry_after)
    if status == 408:  # noqa: PLR2004 - the rest of the body may still come, or never.
        found["Connection"] = "close"
    if status == 401:  # noqa: PLR2004 - RFC 9110 asks for the challenge.
        found["WWW-Authenticate"] = 'Bearer realm="topwork"'
    return found


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return a sentence that names the most similar known words, or None."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else None


def explain(errors: Sequence[Any], model: type[BaseModel] | None = None) -> list[dict[str, Any]]:
    """Turn pydantic's error list into `{param, code, message, hint}` with did-you-mean hints."""
    return [_explain_one(error, model) for error in errors]


def _explain_one(error: Mapping[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    path = [str(part) for part in error["loc"]]
    if path and path[0] in ("body", "query", "path", "header"):
        path = path[1:]
    # Tagged unions put the tag of their branch behind the field's name.
    path = [part for part in path if part not in ("auto", "value")] or path
    code, message, hint = error["type"], error["msg"], None
    if code == "extra_forbidden":
        code, message = "unknown_field", f"there is no field {path[-1]!r} here"
        hint = _where(path, model) if model else None
    if code == "string_pattern_mismatch":
        message = f"{str(error.get('input'))[:80]!r} does not have the form of this field"
        hint = _description(model, path) or f"It has to match {error['ctx']['pattern']}"
    return {
        "param": ".".join(path) or None,
        "code": code,
        "message": message.removeprefix("Value error, "),
        "hint": hint,
    }


def _description(model: type[BaseModel] | None, path: Sequence[str]) -> str | None:
    """Return how the field at a path inside a model is described."""
    for name in path[:-1]:
        field = model.model_fields.get(name) if model else None
        model = _object_in(field.annotation) if field else None
    field = model.model_fields.get(path[-1]) if model and path else None
    return field.description if field else None


def _where(path: list[str], model: type[BaseModel]) -> str | None:
    """Suggest fields of the same object by name, else fields of the objects in it by their path."""
    here = _fields_at(model, path[:-1])
    inside = {
        name: ".".join([*path[:-1], part, name])
        for part in here
        for name in _fields_at(model, [*path[:-1], part])
    }
    if (hint := nearest(path[-1], here)) is not None:
        return hint
    near = difflib.get_close_matches(path[-1], inside, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(inside[name] for name in near)}?" if near else None


def _fields_at(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """Return the field names of the object at a path inside a model."""
    for name in path:
        field = model.model_fields.get(name)
        inner = _object_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _object_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        found = (_object_in(part) for part in typing.get_args(annotation))
        return next((part for part in found if part), None)
    return None
