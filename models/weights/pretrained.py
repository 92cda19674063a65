"""Get pretrained weights into the folder: from the publisher, or from a file at hand.

`python -P -m models.weights.pretrained ARCHITECTURE FILE FOLDER` is the child process of
`models.weights.local_weights.add`.
"""

import errno
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as torchvision_models

from core.system import json_child
from models.networks import tensorfile, zoo
from models.networks.head import IMAGENET_CLASSES
from models.networks.loading import load_published
from models.networks.tensorfile import TensorFile
from models.planning import catalogue
from models.weights import local_weights
from models.weights.checkpoint_file import read, without_prefix
from models.weights.download import Progress, download
from models.weights.local_weights import Entry, Record
from topwork.errors import (
    DiskFull,
    IntegrityError,
    WeightsMismatch,
    WeightsUnavailable,
)

# Published DenseNet files still have names with a dot where the layers' names have none today.
_OLD_DENSE_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_STALE_SECONDS = 24 * 3600.0


def load(
    architecture: str,
    weights_dir: Path,
    *,
    offline: bool = False,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> TensorFile:
    """Return the weights of an architecture in memory, fetched first if they are not here.

    Raises:
        WeightsUnavailable: There is no file here, and none could be fetched.
        IntegrityError: The file here, or the downloaded one, is not the recorded one.
        WeightsMismatch: A file without a record is no safetensors file.
    """
    entry = ensure(architecture, weights_dir, offline=offline, timeout=timeout, progress=progress)
    try:
        return tensorfile.read(entry.path, entry.record.sha256)
    except IntegrityError as error:
        raise IntegrityError(
            f"{entry.path} has changed since it was added.",
            hint="Remove it, or add the weights again.",
        ) from error


def ensure(
    architecture: str,
    weights_dir: Path,
    *,
    offline: bool = False,
    timeout: float = 5.0,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Entry:
    """Return the entry of an architecture, downloaded and converted if need be; it is not read.

    `mirror` is the address of a folder that holds the publisher's files under their own names.

    Raises:
        WeightsUnavailable: There is no file here, and none could be fetched.
        IntegrityError: The downloaded file is not the published one.
    """
    entry = local_weights.find(weights_dir, architecture)
    if entry is not None:
        return entry
    published = catalogue.get(architecture).weights
    if published is None:
        raise WeightsUnavailable(
            f"Nobody has published ImageNet weights for {architecture}.",
            param="weights",
            hint="Train from scratch with weights `none`, or choose another architecture.",
        )
    if offline:
        raise _unavailable(architecture, weights_dir, "downloads are switched off")
    url = f"{mirror.rstrip('/')}/{published.file}" if mirror else published.url
    with _workplace(weights_dir) as place:
        try:
            download(
                url,
                place / published.file,
                hash_prefix=published.hash_prefix,
                timeout=timeout,
                progress=progress,
            )
        except WeightsUnavailable as error:
            raise _unavailable(architecture, weights_dir, error.message) from error
        state, digest = read(place / published.file)
        if not digest.startswith(published.hash_prefix):
            raise IntegrityError(f"{published.file} was changed while it was converted.")
        record = Record(url, published.preset, license=published.license)
        return _keep(architecture, state, weights_dir, record)


def add(architecture: str, file: Path, weights_dir: Path) -> Entry:
    """Check a .pth, .pt or .safetensors file against the network and keep it.

    Raises:
        WeightsMismatch: The file is not readable, not of this network, or has non-finite numbers.
    """
    if not file.is_file():
        raise WeightsMismatch(f"There is no file {file}.")
    state, digest = read(file)
    return _keep(architecture, state, weights_dir, _origin(architecture, file.name, digest))


def _unavailable(architecture: str, weights_dir: Path, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"The weights of {architecture} are not in {weights_dir}, and {reason}.".replace("..", "."),
        param="weights",
        hint=local_weights.bring(architecture, weights_dir),
    )


def _origin(architecture: str, name: str, digest: str) -> Record:
    """Tell from its hash whether a local file is one of the published ones."""
    own = architecture in zoo.OWN
    for entry in () if own else torchvision_models.get_model_weights(architecture):
        prefix = entry.url.rpartition("-")[2].removesuffix(".pth")
        if digest.startswith(prefix):
            return Record(entry.url, entry.name, license=entry.meta.get("license"))
    return Record(name)


@contextmanager
def _workplace(weights_dir: Path) -> Iterator[Path]:
    """Give a folder beside the weights for files in the making; tell a full disk by its name."""
    weights_dir.mkdir(parents=True, exist_ok=True)
    for left in weights_dir.glob(".part-*"):
        # A killed process could not clean up after itself.
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=weights_dir) as place:
            yield Path(place)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull from error
        raise
    except SafetensorError as error:
        if "No space left" in str(error):
            raise DiskFull from error
        raise


def _keep(
    architecture: str, found: Mapping[str, Tensor], weights_dir: Path, record: Record
) -> Entry:
    state = canonical(architecture, found)
    with _workplace(weights_dir) as place:
        made = place / f"{architecture}.safetensors"
        # One entry alone: the library writes several in an order that no two runs share.
        save_file(state, made, {"format": "pt"})
        return local_weights.publish(made, weights_dir, architecture, record)


def canonical(
    architecture: str,
    state: Mapping[str, Tensor],
    classes: int = IMAGENET_CLASSES,
    *,
    auxiliary: bool = True,
) -> dict[str, Tensor]:
    """Return the tensors under today's names, as finite float32; raises WeightsMismatch.

    What wrappers put before the names is taken off. Layers rename and complete older states by
    themselves; DenseNet's names are older than that. `classes` and `auxiliary` say which outputs
    the network has.
    """
    model = zoo.shell(architecture, classes, auxiliary=auxiliary)
    expected = model.state_dict()
    metadata = getattr(state, "_metadata", None)
    state = without_prefix(state, expected.keys())
    values = {_OLD_DENSE_NAME.sub(r"\1\2", name): state[name] for name in state}
    for name in expected.keys() & values.keys():
        if values[name].is_floating_point() != expected[name].is_floating_point():
            raise WeightsMismatch(
                f"'{name}' holds {values[name].dtype} instead of {expected[name].dtype}."
            )
    load_published(model, values, metadata)
    return {
        name: _finite(name, tensor.to(expected[name].dtype)).contiguous()
        for name, tensor in model.state_dict().items()
    }


def _finite(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WeightsMismatch(f"'{name}' contains numbers that are not finite.")
    return tensor


def main() -> None:
    """Add one file and print its entry, or the error."""
    architecture, file, weights_dir = sys.argv[1:]
    json_child.answer(lambda: add(architecture, Path(file), Path(weights_dir)).to_dict())


if __name__ == "__main__":
    main()
