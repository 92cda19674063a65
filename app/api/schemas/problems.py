"""The body of every answer that is not a success (RFC 9457)."""

from pydantic import ConfigDict
from pydantic.config import JsonDict

from app.api.schemas.values import Answer

EXAMPLE: JsonDict = {
    "type": "urn:topwork:problem:architecture_unknown",
    "title": "There is no architecture of this name",
    "status": 422,
    "detail": "There is no architecture named 'resnet51'.",
    "instance": "/finetune",
    "code": "architecture_unknown",
    "param": "architecture",
    "hint": "Did you mean resnet50?",
    "request_id": "req_01k9z8v3q7m2c4d6e8f0g4",
    "errors": [],
}


class FieldProblem(Answer):
    """What is wrong with one field."""

    param: str | None
    code: str
    message: str
    hint: str | None = None


class Problem(Answer):
    """`application/problem+json`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    """Stable; the same words are in `job.error.code`."""
    param: str | None
    hint: str | None
    request_id: str | None
    errors: list[FieldProblem]
