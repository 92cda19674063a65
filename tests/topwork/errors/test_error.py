"""The tree of errors: there and back again, whatever the class."""

from collections import Counter
from typing import Any

import pytest

from topwork import errors
from topwork.errors import ServiceError, TooManyFailures, TooManyRequests, TopworkError, from_dict

TREE = {
    one.code: one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, TopworkError) and "code" in vars(one)
}


@pytest.mark.parametrize("kind", TREE.values(), ids=lambda kind: kind.code)
def test_an_error_comes_back_under_its_own_class(kind: type[TopworkError]) -> None:
    there = kind("said so", param="here", hint="do that")
    back = from_dict(there.to_dict())
    assert type(back) is kind
    assert (back.to_dict(), back.status) == (there.to_dict(), kind.status)


@pytest.mark.parametrize("kind", TREE.values(), ids=lambda kind: kind.code)
def test_the_docstring_is_the_message_and_the_hint_ends_the_text(kind: type[TopworkError]) -> None:
    error = kind()
    assert error.message == (kind.__doc__ or "").splitlines()[0]
    assert str(error).startswith(error.message.rstrip("."))
    assert str(error).endswith(error.hint or error.message)
    assert str(kind(hint="Do that.")).endswith("Do that.")


def test_no_code_means_two_things() -> None:
    kinds: list[Any] = [
        one for one in vars(errors).values() if isinstance(one, type) and "code" in vars(one)
    ]
    assert len(kinds) > 50
    assert Counter(kind.code for kind in set(kinds)).most_common(1)[0][1] == 1


def test_a_code_of_tomorrow_keeps_its_name_and_status() -> None:
    body = {"code": "of_tomorrow", "status": 418, "title": "New", "errors": [{"param": "a"}]}
    error = from_dict(body)
    assert type(error) is ServiceError
    assert (error.code, error.status, error.message) == ("of_tomorrow", 418, "New")
    assert error.errors == [{"param": "a"}]
    assert TopworkError.code == "internal"


def test_nothing_at_all_is_an_error_too() -> None:
    assert from_dict({}).message == TopworkError.__doc__


def test_a_kind_that_carries_more_comes_back_as_well() -> None:
    there = TooManyFailures("slowly", hint="wait", retry_after=7)
    back = from_dict(there.to_dict())
    assert isinstance(back, TooManyRequests)
    assert (back.message, back.hint, there.retry_after) == ("slowly", "wait", 7)
