"""One function puts tensors into a module; it takes what fits to the letter, and nothing else."""

import ast
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks import zoo
from models.networks.loading import load_published, load_tensors
from topwork.errors import WeightsMismatch

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("app", "core", "models", "worker")
# What is no module keeps no layout versions.
OTHERS = {
    ("models/training/gradients.py", "self.scaler"),
    ("models/training/resume.py", "optimizer"),
}


class Versioned(nn.Linear):
    """A layer that refuses values which do not say in what layout they are, as MNASNet does."""

    _version = 3

    def _load_from_state_dict(
        self, values: dict[str, Tensor], prefix: str, versions: dict[str, int], *others: Any
    ) -> None:
        if versions.get("version") != self._version:
            raise ValueError(f"version should be 3 instead of {versions.get('version')}")
        super()._load_from_state_dict(values, prefix, versions, *others)


def network() -> nn.Module:
    return nn.Sequential(Versioned(2, 3), nn.BatchNorm1d(3))


def plain(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors alone, as a file has them."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("assign", [False, True])
def test_plain_tensors_fill_a_layer_that_asks_for_its_version(*, assign: bool) -> None:
    given, model = plain(network()), network()
    load_tensors(model, given, assign=assign)
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"0.weight": torch.zeros(3, 4)}, r"'0\.weight' has shape \(3, 4\) instead of \(3, 2\)"),
        ({"0.bias": torch.zeros(3).double()}, r"'0\.bias' holds torch\.float64 instead of"),
        ({"1.num_batches_tracked": torch.tensor(1.0)}, r"holds torch\.float32 instead of torch\.i"),
        ({"0.bias": None}, r"'0\.bias' is missing"),
        ({"2.weight": torch.zeros(1)}, r"'2\.weight' does not belong"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(
    changes: dict[str, Tensor | None], words: str
) -> None:
    model = network()
    before = plain(model)
    given = {name: value + 1 for name, value in before.items()} | changes
    with pytest.raises(WeightsMismatch, match=words):
        load_tensors(model, {name: value for name, value in given.items() if value is not None})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_published_file_may_be_of_an_older_layout() -> None:
    """Batch normalisation counts its batches since its second layout."""
    given = plain(nn.BatchNorm1d(3))
    del given["num_batches_tracked"]
    with pytest.raises(WeightsMismatch, match="'num_batches_tracked' is missing"):
        load_published(nn.BatchNorm1d(3), given)
    load_published(nn.BatchNorm1d(3), given, {"": {"version": 1}})


@pytest.mark.parametrize(
    "versions", [{"": {"version": 99}}, {"": {"version": "two"}}, {"": 5}, [1]]
)
def test_a_file_that_names_a_layout_nobody_knows_is_refused(versions: object) -> None:
    values = plain(zoo.build("mnasnet0_5"))
    with pytest.raises(WeightsMismatch, match="no version of this architecture"):
        load_published(zoo.shell("mnasnet0_5"), values, versions)  # type: ignore[arg-type]


def test_the_first_layout_of_mnasnet_has_other_shapes_and_is_refused() -> None:
    """torchvision would change the network to fit the file."""
    values = OrderedDict(plain(zoo.build("mnasnet0_5")))
    shell = zoo.shell("mnasnet0_5")
    with pytest.warns(UserWarning, match="new version of MNASNet"), pytest.raises(WeightsMismatch):
        load_published(shell, values, {"": {"version": 1}})


def test_nothing_else_puts_tensors_into_modules() -> None:
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr == "load_state_dict":
                    found.add((name, ast.unparse(node.value)))
    assert found - OTHERS == {
        ("models/networks/loading.py", "module"),
        ("models/networks/loading.py", "shell"),
    }
