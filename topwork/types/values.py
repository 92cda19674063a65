"""Values that several types share, and the two base classes of all types."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from topwork.kinds import RejectMode

MOST_UNKNOWN = 50  # Fields of one object that are each told to be unknown.


def _moment(value: Any) -> Any:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, float | int) else value


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def printable(text: str) -> str:
    """Return a name that changes no terminal that shows it, or raise ValueError."""
    if not text.isprintable():
        message = "control characters and marks that change how text is shown are not allowed"
        raise ValueError(message)
    return text


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
DatasetName = Annotated[
    str, AfterValidator(printable), Field(min_length=1, max_length=100, examples=["pets"])
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=["9f86d081" * 8])]
Links = Annotated[dict[str, str], Field(description="Addresses of this object and its parts.")]
Counts = Annotated[dict[str, dict[str, int]], Field(description="Images per split and class.")]


def fewer(most: int) -> BeforeValidator:
    """Refuse an object with too many members before each of them is held against its type."""

    def counted(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            facts = {"field_type": "Dictionary", "max_length": most, "actual_length": len(value)}
            raise PydanticKnownError("too_long", facts)
        return value

    return BeforeValidator(counted)


def _word_or_share(raw: Any) -> str:
    """Tell a word from a number, so that a wrong one gets one error; forms send both as text."""
    try:
        float(raw)
    except (TypeError, ValueError):
        return "auto" if isinstance(raw, str) else "value"
    return "value"


REJECT = (
    "Which answers are marked `abstain`: `auto`, by the model's thresholds; `none`; or a number, so"
    " that this share of images of its classes is accepted."
)
Reject = Annotated[
    Annotated[RejectMode, Tag("auto")]
    | Annotated[float, Field(ge=0.5, le=0.99, allow_inf_nan=False), Tag("value")],
    Discriminator(_word_or_share),
    Field(examples=["auto", "none", 0.9], description=REJECT),
]

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], str | int | float | bool | None],
    Field(max_length=32, examples=[{"ticket": "42"}], description="Up to 32 values of your own."),
    fewer(32),
]

Word = TypeVar("Word", bound=StrEnum)


class _OpenWord:
    """Takes a word of an enum as its member, and one that only a newer service knows as text."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        words = handler(next(part for part in get_args(source) if part is not str))
        text = core_schema.to_string_ser_schema()
        return core_schema.no_info_wrap_validator_function(_word, words, serialization=text)


def _word(value: Any, member: ValidatorFunctionWrapHandler) -> Any:
    try:
        return member(value)
    except ValidationError:
        if isinstance(value, str):
            return value
        raise


Open = Annotated[Word | str, _OpenWord()]
"""`Open[JobState]` in an answer; requests take the enum itself, which is closed."""


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
    """A response body; read with `extra="allow"` it keeps the fields that a newer service adds."""

    model_config = ConfigDict(protected_namespaces=(), serialize_by_alias=True, defer_build=True)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, as the service has sent it."""
        known = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            known[field.serialization_alias or name] = _with_unknown(
                getattr(self, name), known[field.serialization_alias or name]
            )
        return known | (self.model_extra or {})


def _with_unknown(value: Any, plain: Any) -> Any:
    """Return the plain form with what the dump leaves out: fields that are not known here."""
    if isinstance(value, Answer):
        return value.to_dict()
    if isinstance(value, list):
        return [_with_unknown(one, bare) for one, bare in zip(value, plain, strict=True)]
    if isinstance(value, dict):
        return {name: _with_unknown(one, plain[name]) for name, one in value.items()}
    return plain
