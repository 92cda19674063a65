"""Types of single values that several bodies share."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer


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
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], str | int | float | bool | None],
    Field(max_length=32, examples=[{"ticket": "42"}], description="Up to 32 values of your own."),
]


class Body(BaseModel):
    """A request body: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """A response body, made from a row or from keyword arguments."""

    model_config = ConfigDict(
        from_attributes=True,
        protected_namespaces=(),
        serialize_by_alias=True,
    )
