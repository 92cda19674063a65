"""What every test near torch needs."""

from collections.abc import Iterator

import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(autouse=True)
def _settled_torch() -> Iterator[None]:
    """Leave torch's process-wide switches as they were."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
