"""A worker by itself, where nobody takes what it writes."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.stuck import stuck


@pytest.mark.parametrize(("kind", "stop"), [("terminal", signal.SIGINT), ("pipe", signal.SIGTERM)])
def test_a_job_ends_and_so_does_the_worker(
    make_bench: Callable[..., Any], kind: str, stop: signal.Signals
) -> None:
    with stuck(kind) as place, make_bench() as bench:
        worker = bench.worker(output=place.fd, ready=False)
        bench.settles(bench.submit({2: "crash"}))  # Each attempt is told about.
        held = bench.submit({2: "wait"})
        bench.wait("waiting")
        began = time.monotonic()
        worker.send_signal(stop)
        assert worker.wait(10) == 0
        assert time.monotonic() - began < 10
        assert bench.job(held).state == "queued"
        assert place.takes_nothing()
