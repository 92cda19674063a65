"""T24: where /dev/shm holds 8 MB, as in a container, all is read and trained as elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import Tell
from tests.chaos.test_decoders import archive, finished, ingest
from tests.chaos.trainings import digest, order, training

pytestmark = [pytest.mark.chaos, pytest.mark.nightly, pytest.mark.timeout(300)]
MEBIBYTE = 1024 * 1024
EPOCHS = 20
SMALL = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"',
    "small-shm",
)


def test_eight_megabytes_of_shared_memory_are_enough(
    make_bench: Callable[..., Any], tmp_path: Path, tell: Tell
) -> None:
    content = archive()
    with training(make_bench, tmp_path) as (bench, dataset):
        seen = []
        for name, within in (("usual", ()), ("small", SMALL)):
            worker = bench.worker(module="worker", within=within)
            read = finished(bench, *ingest(bench, content, name))
            seen.append((read, digest(bench, order(bench, dataset, name, EPOCHS))))
            disk = os.statvfs(Path(f"/proc/{worker.pid}/root") / "dev/shm")
            assert (disk.f_blocks * disk.f_frsize == 8 * MEBIBYTE) == (within is SMALL)
            worker.terminate()
            assert worker.wait(60) == 0
    assert seen[0] == seen[1]
    tell("T24 8 MB of shared memory: the same dataset, the same weights")
