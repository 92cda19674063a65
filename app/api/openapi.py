"""The OpenAPI document and its page, all of it served from this machine."""

from functools import cache
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.requests import Request

from app.api.openapi_document import PROBLEM, REFERENCE, complete
from app.asgi.multipart import FORM
from app.asgi.problem import MEDIA_TYPE
from app.asgi.request_log import CSP
from topwork import types

DESCRIPTION = """
Topwork turns a folder of labelled images into an image classifier behind HTTP.

`POST /finetune` takes a zip with one folder per class and answers with a job; when the job has
succeeded, `POST /predict` answers with its labels. Lists are paged by cursor, a repeated POST with
the same `Idempotency-Key` has no second effect, and every error is `application/problem+json`.
"""
TAGS = [
    {"name": "Fine-tune", "description": "From images to a job in one request."},
    {"name": "Predict", "description": "Classify images."},
    {"name": "Jobs", "description": "Follow, cancel, retry: one resource for every kind of work."},
    {"name": "Datasets", "description": "Labelled images in immutable versions."},
    {"name": "Uploads", "description": "Large archives in pieces, resumable (tus 1.0)."},
    {"name": "Models", "description": "Published classifiers, their versions and aliases."},
    {"name": "Architectures", "description": "Networks that can be fine-tuned."},
    {"name": "Keys", "description": "Who may speak to the service, and what for."},
    {"name": "System", "description": "Health, load and metrics of the service."},
]
ASSETS = Path(fastapi_offline.__file__).parent / "static"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Topwork API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
"""
# A file of its own, so that the content security policy can forbid inline scripts.
SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be served.", "content": {MEDIA_TYPE: PROBLEM}},
    "5XX": {"description": "Temporarily unable (503, 507).", "content": {MEDIA_TYPE: PROBLEM}},
}
# Swagger UI sets styles within its elements; nothing else here does.
INLINE_STYLE = CSP + "; style-src 'self' 'unsafe-inline'"
BYTES = "application/octet-stream"
BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}


def bytes_answer(kind: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of bytes of a media type."""
    return {200: {"content": {kind: {"schema": BINARY}}}}


def text_answer(examples: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of text, by an example for each media type."""
    content = {kind: {"schema": TEXT, "example": text} for kind, text in examples.items()}
    return {200: {"content": content}}


def operation_id(route: APIRoute) -> str:
    """Return the function's name: `finetune`, `list_jobs`, `get_job`."""
    return route.name


def json_or_form(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is JSON, or a form of files with the same JSON in `config`."""
    form = _form({"config": _reference(model)}, ["file", "config"])
    return _body({"application/json": {"schema": _reference(model)}, FORM: form})


def json_or_files(request: type[BaseModel], fields: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is JSON about an upload, or a form of files with small fields."""
    form = _form(_properties(fields), ["file"])
    return _body({"application/json": {"schema": _reference(request)}, FORM: form})


def raw_body(kind: str) -> dict[str, Any]:
    """Describe a body of bytes."""
    return _body({kind: {"schema": BINARY}})


def images_body() -> dict[str, Any]:
    """Describe the three ways to send images."""
    return _body(
        {
            FORM: _form(_properties(types.PredictFields), ["file"]),
            "image/*": {"schema": BINARY},
            "application/json": {"schema": _reference(types.PredictRequest)},
        }
    )


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    return dict(model.model_json_schema(ref_template=REFERENCE)["properties"])


def _form(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    properties = {"file": {"type": "array", "items": BINARY}, **fields}
    return {"schema": {"type": "object", "properties": properties, "required": required}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI) -> None:
    """Serve the document, the page and its files."""
    original = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        return complete(original())

    def page(_request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": INLINE_STYLE})

    def script(_request: Request) -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way.
    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/docs/init.js", script, include_in_schema=False)
    app.mount("/docs", StaticFiles(directory=ASSETS))
