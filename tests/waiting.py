"""Wait for a condition instead of for time."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T | Literal[False] | None], timeout: float = 30.0) -> T:
    """Return the condition's first true value; fail after `timeout` seconds.

    It looks often at first and ten times a second later, so that what is waited for gets the cores.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        assert waited < timeout, f"not within {timeout} s: {condition}"
        time.sleep(min(0.1, max(0.005, waited / 20)))
    return value
