"""Out of memory: smaller parts of the same batch (gradient accumulation), never a smaller batch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from core.system.machine import ran_out_of_memory
from topwork.errors import OutOfMemory

Compute = Callable[[Tensor], Tensor]


class Parts:
    """Into how many parts a batch is cut, and the statistics to go back to.

    A step that ran out of memory half-way has already shown some images to the layers that keep
    statistics. Memory usually runs out in the first step of a process, so these are remembered
    before it; `remember` once, `halve` after each failure.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self.count = count
        self._model = model
        self._before: list[Tensor] | None = None

    def remember(self) -> None:
        """Keep the model's buffers until the first step is done."""
        self._before = [value.clone() for value in self._model.buffers()]

    def forget(self) -> None:
        """Drop what was kept."""
        self._before = None

    def halve(self, images: int) -> bool:
        """Cut a batch of so many images into twice as many parts; tell whether that is exact.

        Raises:
            OutOfMemory: The parts are as small as they can be.
        """
        self.count *= 2
        if images // self.count < (2 if counts_batches(self._model) else 1):
            raise OutOfMemory
        if torch.cuda.is_available():  # pragma: no cover - needs a GPU.
            torch.cuda.empty_cache()
        if self._before is None:
            return not counts_batches(self._model)
        with torch.no_grad():
            for value, before in zip(self._model.buffers(), self._before, strict=True):
                value.copy_(before)
        return True


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that normalise by the batch at hand while they are in training mode."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return (module for module in model.modules() if isinstance(module, kinds))


def counts_batches(model: nn.Module) -> bool:
    """Tell whether a layer normalises by the batch at hand, so that its size matters."""
    return any(module.training for module in batch_norms(model))


def within(compute: Compute, batch: Tensor) -> Tensor:
    """Return `compute(batch)` where each image counts alone, in halves if memory runs out.

    Raises:
        OutOfMemory: It runs out for a single image.
    """
    try:
        return compute(batch)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
    # Outside of `except`, where the error would keep the tensors of the failed pass alive.
    if len(batch) == 1:
        raise OutOfMemory
    return torch.cat([within(compute, half) for half in batch.tensor_split(2)])


def parts_of(inputs: Tensor, labels: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """Cut a batch into parts whose lengths differ by one at most."""
    return list(zip(inputs.tensor_split(count), labels.tensor_split(count), strict=True))
