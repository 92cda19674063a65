"""The OpenAPI document and its page, all of it served from this machine."""

from functools import cache
from pathlib import Path
from typing import Any, cast

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.described import add_descriptions
from app.api.schemas import datasets, jobs, models, orders, predictions, problems, uploads
from app.api.schemas.jobs import JobOut
from app.api.schemas.orders import DatasetFields, DatasetRequest, FinetuneRequest
from app.api.schemas.predictions import PredictionOut, PredictRequest
from app.api.schemas.problems import Problem
from app.asgi.problem import MEDIA_TYPE

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
BODIES: tuple[type[BaseModel], ...] = (
    FinetuneRequest,
    PredictRequest,
    DatasetFields,
    DatasetRequest,
    Problem,
)
EXEMPLIFIED: tuple[type[BaseModel], ...] = (FinetuneRequest, JobOut, PredictionOut, Problem)
SCHEMAS = (datasets, jobs, models, orders, predictions, problems, uploads)
BINARY = {"type": "string", "format": "binary"}


def operation_id(route: APIRoute) -> str:
    """Return the function's name: `finetune`, `list_jobs`, `get_job`."""
    return route.name


def json_or_form(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is JSON, or a form of files with the same JSON in `config`."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    form = {"file": {"type": "array", "items": BINARY}, "config": reference}
    return _body(
        {
            "application/json": {"schema": reference},
            "multipart/form-data": _form(form, ["file", "config"]),
        }
    )


def files_form(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a form of files with small fields beside them."""
    fields = {
        name: {"$ref": f"#/components/schemas/{model.__name__}/properties/{name}"}
        for name in model.model_fields
    }
    form = {"file": {"type": "array", "items": BINARY}, **fields}
    return _body({"multipart/form-data": _form(form, ["file"])})


def json_or_files(request: type[BaseModel], fields: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is JSON about an upload, or a form of files with small fields."""
    reference = {"$ref": f"#/components/schemas/{request.__name__}"}
    body = files_form(fields)
    body["requestBody"]["content"]["application/json"] = {"schema": reference}
    return body


def raw_body(kind: str) -> dict[str, Any]:
    """Describe a body of bytes."""
    return _body({kind: {"schema": BINARY}})


def images_body() -> dict[str, Any]:
    """Describe the three ways to send images."""
    properties = {"file": {"type": "array", "items": BINARY}}
    properties |= {
        name: {"$ref": f"#/components/schemas/PredictRequest/properties/{name}"}
        for name in ("model", "top_k")
    }
    return _body(
        {
            "multipart/form-data": _form(properties, ["file"]),
            "image/*": {"schema": BINARY},
            "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
        }
    )


def _form(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": properties, "required": required}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI) -> None:
    """Serve the document, the page and its files."""
    original = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        return _complete(original())

    def index() -> RedirectResponse:
        return RedirectResponse("/docs")

    def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    def script() -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way.
    app.add_api_route("/", index, include_in_schema=False)
    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/init.js", script, include_in_schema=False)
    app.mount("/docs", StaticFiles(directory=ASSETS))


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that FastAPI does not see, the key, and nothing but problems as errors."""
    _, extra = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(extra["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    add_descriptions(schemas, SCHEMAS)
    for model in EXEMPLIFIED:
        # FastAPI drops every null from examples.
        extra_schema = cast("dict[str, Any]", model.model_config["json_schema_extra"])
        schemas[model.__name__]["examples"] = extra_schema["examples"]
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}, {}]
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return document
