"""What makes two exceptions the same one."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.system import faults
from core.system.faults import Fault


def caught(broken: Callable[[], object]) -> Fault:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any type.
        broken()
    return Fault.of(caught.value)


def here(key: str) -> object:
    nothing: dict[str, object] = {}
    return nothing[key]


def there(key: str) -> object:
    return json.loads(key)


def refused() -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_words_and_numbers_do_not_make_another_one() -> None:
    first, second = (caught(lambda key=key: here(key)) for key in ("a 0x7f12", "b 0x7f34"))
    assert first.digest == second.digest
    assert first.message != second.message


def test_type_and_place_do() -> None:
    digests = {caught(broken).digest for broken in (lambda: here("a"), lambda: there("{"), refused)}
    assert len(digests) == 3


def test_the_place_is_the_innermost_line_of_our_own_code() -> None:
    fault = caught(lambda: there("{"))
    assert fault.exception == "JSONDecodeError"
    assert fault.place.startswith("tests/core/system/test_faults.py, line ")
    assert fault.place.endswith(", there")


def test_what_the_machine_refused_is_told_apart() -> None:
    assert caught(refused).refused
    assert not caught(lambda: here("a")).refused
    assert not caught(lambda: Path("/no/such/file").read_bytes()).refused


def test_a_message_is_one_short_printable_line() -> None:
    fault = Fault.of(ValueError("\x1b[2J\0" + "x" * 1000 + "\nmore"))
    assert fault.message.isprintable()
    assert len(fault.message) == faults.MOST_CHARACTERS
    assert fault.place == "an unknown place"


def test_the_first_of_several_processes_is_believed(tmp_path: Path) -> None:
    """What the others meet is most often that the first one is gone."""
    faults.record(tmp_path, KeyError("first"))
    faults.record(tmp_path, RuntimeError("second"))
    found = faults.recorded(tmp_path)
    assert found is not None
    assert found.exception == "KeyError"
    assert found == Fault.of(KeyError("first"))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"exception": 1, "place": "a", "message": "b", "refused": false}',
        '{"exception": "E", "place": ["a"], "message": "b", "refused": false}',
    ],
)
def test_evidence_that_cannot_be_read_is_none(tmp_path: Path, said: str) -> None:
    (tmp_path / faults.FILE).write_text(said)
    assert faults.recorded(tmp_path) is None
