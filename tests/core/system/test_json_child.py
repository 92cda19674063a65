import subprocess

import pytest

from core.system.child import python
from core.system.json_child import ChildDied, ask
from topwork.errors import DiskFull

ANSWERS = "from core.system.json_child import answer; "


def test_the_answer_comes_back_whatever_a_library_prints() -> None:
    words = ANSWERS + "print('a greeting'); answer(lambda: {'threads': 2})"
    assert ask(python("-c", words)) == {"threads": 2}
    assert ask(python("-c", ANSWERS + "answer(lambda: None)")) is None


def test_a_named_error_is_raised_here_with_its_hint() -> None:
    raises = """
from core.system.json_child import answer
from topwork.errors import DiskFull
def work():
    raise DiskFull("no room", hint="make some")
answer(work)
"""
    with pytest.raises(DiskFull, match="no room") as caught:
        ask(python("-c", raises))
    assert caught.value.hint == "make some"


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_told_by_its_name(number: str) -> None:
    raises = f"""
import errno
from core.system.json_child import answer
def work():
    raise OSError(errno.{number}, "told to")
answer(work)
"""
    with pytest.raises(DiskFull):
        ask(python("-c", raises))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("raise ImportError('libcudart.so is missing')", "ImportError: libcudart.so is missing"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
        ("print('{}')", "exit code 0"),
        ("print('[1]')", "exit code 0"),
    ],
)
def test_a_child_without_an_answer_says_its_last_words(words: str, said: str) -> None:
    with pytest.raises(ChildDied) as caught:
        ask(python("-c", words))
    assert str(caught.value) == said


def test_a_child_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        ask(python("-c", "import time; time.sleep(600)"), seconds=0.2)
