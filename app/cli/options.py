"""Options of `topwork train`, made from the fields of `POST /finetune`: nothing is listed twice."""

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.terminal.output import replace_parameters
from topwork.client.options import UploadReadingOptions
from topwork.errors import InvalidField, TopworkError
from topwork.types.datasets import UploadReading
from topwork.types.finetune import FinetuneRequest

SHORT = {
    "architecture": ("-m",),
    "epochs": ("-e",),
    "batch_size": ("-b",),
    "learning_rate": ("--lr",),
}
LEFT_OUT = ("dataset", "metadata")  # The one is the argument DATA, the other is repeatable.
WHOLE = ("layout",)  # Its fields have names that others have, too.
NOTHING = "none"  # Leaves a whole optional part out: `--patience none`.


@dataclass(frozen=True)
class Choice:
    """One field of the request, or of a part of it, as an option."""

    path: tuple[str, ...]
    field: FieldInfo
    optional_part: bool = False

    @property
    def name(self) -> str:
        """Name of the Python parameter."""
        return self.path[-1]

    def parameter(self) -> inspect.Parameter:
        """Return the keyword that Typer shows as an option."""
        flags = (f"--{self.name.replace('_', '-')}", *SHORT.get(self.name, ()))
        words = " ".join((self.field.description or "").split())
        help_text = f"{words} Default {self._default()}." if self._default() else words
        option = typer.Option(*flags, metavar=self._metavar(), help=help_text.strip())
        required = self.field.is_required()
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required else None,
            annotation=Annotated[str if required else str | None, option],
        )

    def _default(self) -> str:
        default = self.field.default
        return "" if self.field.is_required() or default is None else str(default).lower()

    def _metavar(self) -> str:
        words = _literals(self.field.annotation)
        if len(words) > 1:
            return "|".join(words)
        if self.name in WHOLE:
            return "WORD|JSON"
        return "|".join((*words, "TEXT" if self.is_text() else "NUMBER"))

    def is_text(self) -> bool:
        """Tell whether the value is taken as it is typed."""
        kinds = (self.field.annotation, *typing.get_args(self.field.annotation))
        return any(isinstance(kind, type) and issubclass(kind, str) for kind in kinds)


def choices() -> Iterator[Choice]:
    """Yield every field of the request; those of its parts in their place."""
    for name, field in FinetuneRequest.model_fields.items():
        part = _part(field.annotation)
        if name in LEFT_OUT:
            continue
        if part is None or name in WHOLE:
            yield Choice((name,), field)
        else:
            optional = type(None) in typing.get_args(field.annotation)
            for inner, inner_field in part.model_fields.items():
                yield Choice((name, inner), inner_field, optional)


def with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `config` of a command by one option for each field."""
    known = list(choices())

    def run(*args: Any, **kwargs: Any) -> None:
        given = {one: kwargs.pop(one.name) for one in known}
        command(*args, config=request({k: v for k, v in given.items() if v is not None}), **kwargs)

    return replace_parameters(command, run, ("config",), [one.parameter() for one in known])


def request(given: dict[Choice, str]) -> dict[str, Any]:
    """Return the JSON of the options that were given.

    Raises:
        InvalidField: A value cannot be used; better known before an upload than after it.
    """
    body: dict[str, Any] = {}
    for choice, text in given.items():
        if choice.optional_part and text == NOTHING:
            body[choice.path[0]] = None
            continue
        place = body
        for name in choice.path[:-1]:
            place = place.setdefault(name, {})
        place[choice.name] = text if choice.is_text() else _value(text)
    try:
        FinetuneRequest.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from None
    return body


def upload_answers(**given: str | None) -> UploadReadingOptions:
    """Return the answers of an upload, each a word or JSON; those that are None are left out.

    Raises:
        InvalidField: A value cannot be used.
    """
    body = {name: _value(text) for name, text in given.items() if text is not None}
    try:
        answers = UploadReading.model_validate(body).answers()
    except ValidationError as error:
        raise _invalid(error) from None
    return cast("UploadReadingOptions", answers)


def _invalid(error: ValidationError) -> TopworkError:
    known = {choice.path: f"--{choice.name.replace('_', '-')}" for choice in choices()}
    found = [
        {
            "param": next(
                (flag for path, flag in known.items() if one["loc"][: len(path)] == path),
                ".".join(map(str, one["loc"])),  # Of a part as a whole: of two options together.
            ),
            "message": one["msg"].removeprefix("Value error, "),
        }
        for one in error.errors()
    ]
    refusal = InvalidField("An option cannot be used.")
    refusal.errors = found
    return refusal


def _value(text: str) -> Any:
    """Return a number or true or false as such, anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _part(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _literals(annotation: Any) -> list[str]:
    """Return the words of every Literal inside a type, those of a truth value included."""
    if annotation is bool:
        return ["true", "false"]
    if typing.get_origin(annotation) is Literal:
        return [str(word) for word in typing.get_args(annotation)]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [word for kind in typing.get_args(annotation) for word in _literals(kind)]
    return []
