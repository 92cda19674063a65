"""The body of every answer that is not a success (RFC 9457), and the same inside other answers."""

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from topwork.types.values import Answer

_EXAMPLE: JsonDict = {
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


class Option(Answer):
    """A value of the field that a question is about, and what it would mean."""

    value: Any = Field(description="Send this as the field.", examples=[{"classes": "outer"}])
    meaning: str = Field(description="What would be read then.")


class Error(Answer):
    """Why something failed, in the words of a problem answer."""

    code: str = Field(description="Stable word for what happened.", examples=["loss_diverged"])
    message: str = Field(description="What happened, in a sentence.")
    param: str | None = Field(None, description="Field or file that it is about.")
    hint: str | None = Field(None, description="What to do about it.")
    options: list[Option] = Field([], description="Values of `param` that answer the question.")


class Problem(Answer):
    """`application/problem+json`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: str = Field(description="`urn:topwork:problem:` and the code.")
    title: str = Field(description="What the code means.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What happened this time.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="Stable; the same words are in `job.error.code`.")
    param: str | None = Field(description="Field or parameter that it is about.")
    hint: str | None = Field(description="What to do about it.")
    request_id: str | None = Field(description="Id under which logs name the request.")
    errors: list[Error] = Field(description="Each thing, where several are wrong at once.")
    options: list[Option] = Field([], description="Values of `param` that answer the question.")
