"""Archives are looked into one at a time, in a process that a clock ends."""

import asyncio
import os
from pathlib import Path

import pytest

from app.api import dry_run
from app.api.dry_run import Previews
from app.api.schemas.orders import FinetuneRequest
from app.api.uploads.multipart_archive import Upload
from core.system.settings import Settings
from tests.app.apiclient import zipped
from topwork.errors import ArchiveTooLarge, TooManyRequests, UploadNotFound

REQUEST = FinetuneRequest(architecture="lenet")


@pytest.fixture
def endless(tmp_path: Path) -> Upload:
    """An archive that nobody ever writes: opening it takes for ever."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return Upload(path)


@pytest.fixture
def ordinary(tmp_path: Path) -> Upload:
    path = tmp_path / "ordinary"
    path.write_bytes(zipped())
    return Upload(path)


def test_one_preview_at_a_time_and_none_for_who_has_left(
    endless: Upload, ordinary: Upload, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "TURN_SECONDS", 0.0)

    async def scene() -> list[str]:
        previews = Previews(settings)
        first = asyncio.create_task(previews.summary(endless, REQUEST))
        await asyncio.sleep(0)  # It takes its turn.
        with pytest.raises(TooManyRequests) as caught:
            await previews.summary(ordinary, REQUEST)
        assert caught.value.retry_after >= 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        found: list[str] = (await previews.summary(ordinary, REQUEST))["classes"]
        return found

    assert asyncio.run(scene()) == ["cat", "dog"]


def test_a_preview_has_a_clock(
    endless: Upload, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SECONDS", 1.0)
    with pytest.raises(ArchiveTooLarge, match="over 1 s") as caught:
        asyncio.run(Previews(settings).summary(endless, REQUEST))
    assert "dry_run" in str(caught.value.hint)


def test_an_upload_that_is_gone_is_not_found(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(UploadNotFound):
        asyncio.run(Previews(settings).summary(Upload(tmp_path / "gone"), REQUEST))
