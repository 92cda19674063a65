"""Types of single values that several bodies share."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

MOST_UNKNOWN = 50  # Fields of one object that are each told to be unknown.


def _moment(value: Any) -> Any:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, float | int) else value


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    Field(examples=["2026-11-22T09:30:00.000Z"]),
]
"""A time in UTC with milliseconds; rows keep it as epoch seconds."""

ModelName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$",
        examples=["pets"],
        description="Lower-case letters, digits, `.`, `_` and `-`.",
    ),
]
DatasetName = Annotated[str, Field(min_length=1, max_length=100, examples=["pets"])]


def fewer(most: int) -> BeforeValidator:
    """Refuse an object with too many members before each of them is held against its type."""

    def counted(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            facts = {"field_type": "Dictionary", "max_length": most, "actual_length": len(value)}
            raise PydanticKnownError("too_long", facts)
        return value

    return BeforeValidator(counted)


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], str | int | float | bool | None],
    Field(max_length=32, examples=[{"ticket": "42"}], description="Up to 32 values of your own."),
    fewer(32),
]


class Body(BaseModel):
    """A request body: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        # Each unknown field is an error of its own, which takes a hundred times the field's bytes.
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MOST_UNKNOWN:
            code = "too_many_fields"
            raise PydanticCustomError(code, "there are far more fields here than are known")
        return value


class Answer(BaseModel):
    """A response body, made from a row or from keyword arguments."""

    model_config = ConfigDict(
        from_attributes=True,
        protected_namespaces=(),
        serialize_by_alias=True,
    )
