"""What every test near torch needs."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _settled_torch() -> Iterator[None]:
    """Leave torch's process-wide switches as they were."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
