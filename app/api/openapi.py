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
from pydantic.json_schema import models_json_schema

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
PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be served.", "content": {MEDIA_TYPE: PROBLEM}},
    "5XX": {"description": "Temporarily unable (503, 507).", "content": {MEDIA_TYPE: PROBLEM}},
}
# Bodies that routes read themselves, and the one of every answer that is not a success.
BODIES: tuple[type[BaseModel], ...] = (
    types.FinetuneRequest,
    types.PredictRequest,
    types.BatchFields,
    types.BatchRequest,
    types.DatasetForm,
    types.DatasetRequest,
    types.ImportFields,
    types.ImportRequest,
    types.Problem,
)
REFERENCE = "#/components/schemas/{model}"
# Swagger UI sets styles within its elements; nothing else here does.
INLINE_STYLE = CSP + "; style-src 'self' 'unsafe-inline'"
BINARY = {"type": "string", "format": "binary"}


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
        return _complete(original())

    def page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": INLINE_STYLE})

    def script() -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way.
    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/init.js", script, include_in_schema=False)
    app.mount("/docs", StaticFiles(directory=ASSETS))


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that FastAPI does not see, the key, and nothing but problems as errors."""
    _, extra = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template=REFERENCE
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(extra["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in schemas.items():
        more = getattr(getattr(types, name, None), "model_config", {}).get("json_schema_extra", {})
        schema.update(more)  # FastAPI has dropped every null from examples.
        schema.setdefault("description", types.Page.__doc__)  # Of all generic ones.
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}, {}]
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return document
