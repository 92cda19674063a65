"""The api dies in the middle of an upload; the client goes on where it was."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from core.store.tables import Dataset, Job
from tests.app.apiprocess import Api, start
from tests.waiting import wait_for
from topwork.client import Topwork
from topwork.client import resumable_upload as client_pieces

PIECE = 64 * 1024


@contextmanager
def revived(api: Api) -> Iterator[list[int]]:
    """Start the api again whenever it has died; yields the exit codes so far."""
    codes: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if api.process.poll() is not None:
                codes.append(api.process.returncode)
                with suppress(AssertionError):  # It was killed again while it started.
                    api.launch()
            done.wait(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield codes
    finally:
        done.set()
        thread.join()


def archive(folder: Path, size: int, seed: int) -> Path:
    path = folder / "pets.zip"
    path.write_bytes(random.Random(seed).randbytes(size))  # noqa: S311 - repeatable.
    return path


def arrived(api: Api, path: Path) -> bool:
    """Exactly one dataset was made, of exactly these bytes, and nothing else is left."""
    with api.resources.database.read() as session:
        (dataset,) = session.scalars(select(Dataset))
        assert len(list(session.scalars(select(Job)))) == 1
    wait_for(lambda: not list((api.data / "uploads").iterdir()))
    return api.resources.storage.get_bytes(str(dataset.upload)) == path.read_bytes()


def test_a_client_goes_on_after_the_api_was_killed(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_pieces, "LARGE", PIECE)
    monkeypatch.setattr(client_pieces, "PIECE", PIECE)
    monkeypatch.setattr(client_pieces, "PAUSE", 0.1)
    points = ",".join(
        f"{name}=kill@{visit}?{tmp_path}/{name}"
        for name, visit in (("upload.written", 3), ("upload.synced", 2))
    )
    path = archive(tmp_path, 10 * PIECE + 17, seed=1)
    for api in start(tmp_path, migrated, TOPWORK_FAILPOINTS=points):
        with revived(api) as codes, Topwork(api.url) as topwork:
            job = topwork.datasets.create(path)
            assert job.kind == "ingest"
            assert codes == [-9, -9]
        assert arrived(api, path)
