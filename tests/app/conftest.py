"""Storage with trained models, for whatever serves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.store.object_store import Storage

MakeModel = Callable[..., dict[str, Any]]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Storage, MakeModel]:
    """A storage of its own and a function that puts models there."""
    return _maker(Storage(f"file://{tmp_path}/objects"), tmp_path)


@pytest.fixture
def stored_far(tmp_path: Path, s3: str) -> tuple[Storage, MakeModel]:
    """The same on a server for S3, whose objects have to be brought here."""
    return _maker(Storage(s3), tmp_path)


def _maker(storage: Storage, tmp_path: Path) -> tuple[Storage, MakeModel]:
    from tests.app.trained import store_model  # noqa: PLC0415 - loads torch, which few tests need.

    def make(seed: int = 1, **changes: Any) -> dict[str, Any]:
        return store_model(storage, tmp_path / "made" / str(seed), seed=seed, **changes)

    return storage, make
