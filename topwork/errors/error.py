"""The root of the tree, its JSON form, and the one way back from that form to a class."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class TopworkError(Exception):
    """Something went wrong that a user can act on."""

    status: int = 500
    code: str = "internal"
    hint: str | None = None
    retry_after: int | None = None  # Seconds.
    request_id: str | None = None
    # `{param, code, message, hint}` of each thing where several are wrong at once.
    errors: Sequence[Mapping[str, Any]] = ()
    # `{value, meaning}` of each value of `param` that would answer the question.
    options: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        hint: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Use the class docstring's first line where no message is given."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.hint = hint or type(self).hint
        self.retry_after = retry_after or type(self).retry_after
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the message, and behind it what to do about it."""
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, Any]:
        """Return the stable JSON form `{code, message, param, hint}`, with `options` if any."""
        body = {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "hint": self.hint,
        }
        return body | ({"options": list(self.options)} if self.options else {})


class ServiceError(TopworkError):
    """Something went wrong under a code that is not known here."""


def from_dict(body: Mapping[str, Any]) -> TopworkError:
    """Return the error that `to_dict`, or a problem answer, describes, under the class of its code.

    A code of a newer version keeps its name and its status in a `ServiceError`.
    """
    code = str(body.get("code") or TopworkError.code)
    kinds = (kind for kind in _tree(TopworkError) if vars(kind).get("code") == code)
    kind = next(kinds, ServiceError)
    message = body.get("message") or body.get("detail") or body.get("title")
    error = kind(str(message) if message else None, param=body.get("param"), hint=body.get("hint"))
    if kind is ServiceError:
        error.code, error.status = code, body.get("status") or error.status
    error.request_id, error.errors = body.get("request_id"), body.get("errors") or ()
    error.options = body.get("options") or ()
    return error


def _tree(root: type[TopworkError]) -> Iterator[type[TopworkError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)
