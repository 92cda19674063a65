"""Tensors on their way to the device that computes."""

from torch import Tensor


def sent(tensor: Tensor, device: str) -> Tensor:
    """Return a tensor on the device; nobody waits for the copy to a GPU.

    Only from pinned memory does that copy run beside compute. From any other, it would first wait
    for all the work that the GPU still has to do. What comes back from a GPU is waited for.
    """
    if device != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
