"""What FastAPI leaves out of the OpenAPI document: words, examples, and how requests fail.

`app.api.openapi` serves it; the docstring of a route and of a type is what readers see.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import openapi_examples
from app.api.authorization import PUBLIC
from app.api.openapi_examples import SCHEMAS
from app.asgi import problem
from topwork import types
from topwork.errors import (
    DiskFull,
    Forbidden,
    InvalidField,
    NotFound,
    TooManyRequests,
    TopworkError,
    Unauthorized,
    Unavailable,
)

REFERENCE = SCHEMAS + "{model}"
PROBLEM = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
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
# Parameters that several routes have, where these say nothing themselves.
PARAMETERS = {
    "job_id": "Id of the job.",
    "dataset_id": "Id of the dataset.",
    "upload_id": "Id of the upload.",
    "webhook_id": "Id of the webhook.",
    "key_id": "Id of the key.",
    "name": "Name of the model, or of the network.",
    "number": "Number of the version.",
    "alias": "Name of the alias.",
    "form": "Format of the export.",
    "file": "Name of the file.",
    "sha256": "SHA-256 of the image's file.",
    "state": "Only those in this state.",
    "kind": "Only those of this kind.",
    "source": "Only those whose weights come from there.",
    "dataset": "Only those of this dataset.",
    "class": "Only images of this class.",
    "split": "Only images of this split.",
    "finding": "Only images with this finding.",
    "family": "Only networks of this family.",
    "limit": "Most items of one page.",
    "Last-Event-ID": "Number of the last event seen: the stream goes on behind it.",
}
FAILURES: dict[str, TopworkError] = {
    "401": Unauthorized(),
    "403": Forbidden("this needs a key with the scope 'train'"),
    "404": NotFound("there is no job 'job_01k9z8v3q7m2c4d6e8f0g2'", param="job_id"),
    "422": InvalidField("there is no query parameter 'stat' here", param="stat"),
    "429": TooManyRequests(),
    "503": Unavailable("the database does not answer"),
    "507": DiskFull(),
}
RANGES = {"4XX": "422", "5XX": "503"}  # Whatever else may be answered, with an example.


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that FastAPI does not see, the key, words, examples and failures."""
    bodies = [(model, "validation") for model in BODIES]
    _, extra = models_json_schema(bodies, ref_template=REFERENCE)  # type: ignore[arg-type] # A list is invariant.
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(extra["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in schemas.items():
        more = getattr(getattr(types, name, None), "model_config", {}).get("json_schema_extra", {})
        schema.update(more)  # FastAPI has dropped every null from examples.
        schema.setdefault("description", types.Page.__doc__)  # Of all generic ones.
        for about in schema.get("properties", {}).values():
            if about.get("default") and isinstance(about["default"], dict):
                del about["default"]  # Generators drop a field, or its schema, for such a one.
    openapi_examples.add(schemas)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    components["responses"] = {status: _failure(status) for status in FAILURES}
    document["security"] = [{"key": []}, {}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _explain(path, operation, schemas)
    return document


def _failure(status: str) -> dict[str, Any]:
    error = FAILURES[status]
    known = {"instance": "/jobs", "request_id": "req_01k9z8v3q7m2c4d6e8f0g4", "errors": []}
    example = {**problem.document(error), **known}
    title = str(example["title"])
    return {
        "description": f"{title}.",
        "content": {problem.MEDIA_TYPE: {**PROBLEM, "example": example}},
    }


def _explain(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Describe an operation, its parameters and each of its answers."""
    operation["summary"] = sentence(operation["description"])
    for parameter in operation.get("parameters", []):
        parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own, of another shape.
    for answer in answers.values():
        if answer["description"] in ("", "Successful Response"):
            answer["description"] = _words(answer, operation["summary"], schemas)
    for status in FAILURES:
        if _may_fail(status, path, operation):
            answers[status] = {"$ref": f"#/components/responses/{status}"}
    for some, status in RANGES.items():
        answers[some]["content"][problem.MEDIA_TYPE]["example"] = _failure(status)["content"][
            problem.MEDIA_TYPE
        ]["example"]


def _may_fail(status: str, path: str, operation: dict[str, Any]) -> bool:
    if path in PUBLIC:
        return False
    if status == "404":
        return "{" in path or "requestBody" in operation  # Bodies name models, datasets, uploads.
    if status == "422":
        return "parameters" in operation or "requestBody" in operation
    return status != "507" or "requestBody" in operation


def _words(answer: dict[str, Any], summary: str, schemas: dict[str, Any]) -> str:
    """Describe an answer by the type that it is, or by what was asked for."""
    reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
    if reference:
        return sentence(schemas[reference.removeprefix(SCHEMAS)]["description"]) + "."
    return f"{summary}." if answer.get("content") else "It is done; there is no body."


def sentence(text: str) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")
