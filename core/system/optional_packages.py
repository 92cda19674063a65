"""Optional packages: which an installation lacks, and the command that installs them."""

import sys
from importlib.util import find_spec

from core.system import command_names
from topwork.errors import TopworkError


class TorchMissing(TopworkError):
    """Torch, which trains and predicts, is not installed."""

    status, code = 503, "torch_missing"
    hint = "Install the extra `torch`."


def require_torch() -> None:
    """Refuse to start what could do nothing without torch.

    Raises:
        TorchMissing: With the command that installs it here.
    """
    missing = [name for name in ("torch", "torchvision") if find_spec(name) is None]
    if not missing:
        return
    hint = f"Install it with {command_names.install('torch')}."
    if command_names.in_image():
        hint = "Use an image of the target worker-cpu or worker-gpu, as docker-compose.yml does."
    raise TorchMissing(f"{' and '.join(missing)} cannot be found by {sys.executable}.", hint=hint)
