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
    from tests.app.trained import store_model  # noqa: PLC0415 - loads torch, which few tests need.

    storage = Storage(f"file://{tmp_path}/objects")

    def make(seed: int = 1, **changes: Any) -> dict[str, Any]:
        return store_model(storage, tmp_path / "made" / str(seed), seed=seed, **changes)

    return storage, make
