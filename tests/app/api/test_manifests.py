"""Manifests at hand: many readers of a cold one load it once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.api.manifests import Manifests
from core.domain import datasets
from core.store.resources import Resources
from tests.app.apiclient import publish_dataset
from tests.waiting import wait_for
from topwork.errors import NotFound

READERS = 4


def test_a_manifest_is_loaded_once_for_all_who_wait(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = publish_dataset(resources, tmp_path / "a")
    with resources.database.read() as session:
        version = datasets.version(session, dataset.id)
    manifests = Manifests(resources.storage)
    asked, let, get_bytes = [], threading.Event(), resources.storage.get_bytes

    def slow(key: str) -> bytes:
        asked.append(key)
        assert let.wait(30)
        if len(asked) == 1:
            raise NotFound  # Who waits does not share a failure.
        return get_bytes(key)

    monkeypatch.setattr(resources.storage, "get_bytes", slow)
    with ThreadPoolExecutor(READERS) as threads:
        reads = [threads.submit(manifests.of, version) for _ in range(READERS)]
        try:
            wait_for(lambda: manifests._turns[version.digest][1] == READERS)
        finally:
            let.set()
    assert sum(isinstance(read.exception(), NotFound) for read in reads) == 1
    found = {id(read.result()) for read in reads if read.exception() is None}
    assert (len(asked), len(found)) == (2, 1)
    assert not manifests._turns
