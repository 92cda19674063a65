"""Put tensors into a module: the one place that does, so that every way in is as strict.

torch keeps a layout version of each layer beside a `state_dict`, and no file of plain tensors has
one. A layer whose layout has changed once takes values without a version for those of its oldest
layout: MNASNet refuses them, others rename or complete what is right already.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from core.system.machine import ran_out_of_memory
from topwork.errors import WeightsMismatch

Tensors = Mapping[str, Tensor]


def load_tensors(module: nn.Module, tensors: Tensors, *, assign: bool = False) -> None:
    """Give a module the values of all its parameters and buffers, laid out as it has them today.

    They are copied to where the module is, or with `assign` take the place of what it has.

    Raises:
        WeightsMismatch: A name, a shape or a type differs; the module is as it was.
    """
    values = module.state_dict()  # Also brings the layout versions.
    compare(values, tensors)
    values.update(tensors)
    module.load_state_dict(values, assign=assign)


def load_published(
    shell: nn.Module, tensors: Tensors, versions: Mapping[str, Any] | None = None
) -> None:
    """Give a shell the values of a publisher's file, with the layout versions that the file names.

    Layers rename and complete values of older layouts by themselves. Types stay as they come.

    Raises:
        WeightsMismatch: A name or a shape differs, or a layer does not know such a version.
    """
    expected = shell.state_dict()
    values = OrderedDict(tensors)
    values._metadata = versions or expected._metadata  # type: ignore[attr-defined]  # noqa: SLF001  # torch has no public name for it.
    try:
        found = shell.load_state_dict(values, strict=False, assign=True)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        if ran_out_of_memory(error):
            raise
        refuse(_shapes(expected, values), [], [])
        raise WeightsMismatch(
            "The weights are laid out as no version of this architecture is."
        ) from error
    refuse([], found.missing_keys, found.unexpected_keys)
    # A layer of an older layout may have changed its own shape.
    refuse(_shapes(expected, shell.state_dict()), [], [])


def compare(expected: Tensors, given: Tensors) -> None:
    """Raise WeightsMismatch naming the first names, shapes and types in which two sets differ."""
    types = [
        f"'{name}' holds {given[name].dtype} instead of {tensor.dtype}"
        for name, tensor in expected.items()
        if name in given and given[name].dtype != tensor.dtype
    ]
    missing = [name for name in expected if name not in given]
    foreign = [name for name in given if name not in expected]
    refuse(_shapes(expected, given) + types, missing, foreign)


def refuse(differences: list[str], missing: list[str], foreign: list[str]) -> None:
    """Raise WeightsMismatch if there is any difference, with the first of them."""
    told = [
        *differences,
        *(f"'{name}' is missing" for name in missing),
        *(f"'{name}' does not belong to it" for name in foreign),
    ]
    if told:
        raise WeightsMismatch(
            f"The weights do not belong to this architecture: {len(told)} tensors differ, "
            f"first {'; '.join(told[:3])}."
        )


def _shapes(expected: Tensors, given: Tensors) -> list[str]:
    return [
        f"'{name}' has shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
