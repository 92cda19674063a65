"""What arithmetic a network runs in, and that it stays what it was."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from models.compute import execution
from models.compute.execution import Execution
from models.networks import zoo
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from topwork.types.training import TrainConfig

CPU = Execution("cpu", "bf16", channels_last=True, threads=1, deterministic=True, reason="as given")
SUMMARY = {"classes": ["a", "b"], "counts": {"train": {"a": 5, "b": 5}}}


def plan(architecture: str, **config: Any) -> Plan:
    asked = TrainConfig.model_validate({"architecture": architecture, **config})
    return resolve(asked, catalogue.get(architecture), SUMMARY)


def seen(model: nn.Module, how: Execution) -> list[torch.dtype]:
    """Return the types of the convolutions' results, in order."""
    types: list[torch.dtype] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, result: types.append(result.dtype))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with how.autocast():
        model(how.put(torch.rand(2, 4, 8, 8))).float().sum().backward()
    for handle in handles:
        handle.remove()
    return types


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))


def test_convolutions_in_groups_stay_in_fp32_where_asked_and_only_there() -> None:
    model, low, full = network(), torch.bfloat16, torch.float32
    assert seen(model, CPU) == [low, low, low]
    assert seen(model, replace(CPU, grouped_fp32=True)) == [low, full, low]
    assert seen(model, replace(CPU, precision="fp32", grouped_fp32=True)) == [full, full, full]
    assert seen(model, CPU) == [low, low, low]
    assert {value.dtype for value in model.parameters()} == {full}
    assert {value.grad.dtype for value in model.parameters() if value.grad is not None} == {full}


def test_grouped_convolutions_in_fp32_change_next_to_nothing() -> None:
    model, images = network(), torch.rand(2, 4, 8, 8)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad(), replace(CPU, grouped_fp32=True).autocast():
        close = model(images).float()
    torch.testing.assert_close(close, model(images), rtol=0.05, atol=0.02)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_running_trunk_answers_fp32_in_any_layout(channels_last: bool) -> None:  # noqa: FBT001 - a parameter of the test.
    how = replace(CPU, channels_last=channels_last)
    model = how.place(network())
    images = torch.rand(2, 4, 8, 8)
    got = how.running(model)(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, model(images), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("name", "apart"), [("mobilenet_v3_small", True), ("lenet", False)])
def test_bf16_as_asked_for_keeps_slow_convolutions_apart_and_says_so(
    name: str,
    apart: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    how = execution.as_asked(CPU, zoo.build(name, 2))
    assert how.grouped_fp32 is apart
    assert ("grouped convolutions stay in fp32" in how.reason) is apart
    assert how.explained()["precision"]["value"] == "bf16"


def test_a_head_is_trained_in_fp32_and_remembers_its_features() -> None:
    how = replace(CPU, grouped_fp32=True).for_head()
    assert (how.precision, how.grouped_fp32) == ("fp32", False)
    assert how.trunk == "bf16, grouped convolutions fp32, channels_last"
    assert CPU.for_head().facts() != how.facts()


def test_the_reason_is_no_condition_of_exact_repetition() -> None:
    assert CPU.facts() == replace(CPU, reason="another").facts()
    assert CPU.facts() != replace(CPU, threads=2).facts()


@pytest.mark.parametrize("asked", ["auto", "fp32", "bf16", "fp16"])
def test_the_plan_leaves_open_only_what_has_to_be_measured(asked: str) -> None:
    assert plan("lenet", precision=asked).precision == (None if asked == "auto" else asked)


def test_keeping_memory_breaks_nothing() -> None:
    execution.keep_memory()
    assert torch.ones(1000, 1000).sum() == 1e6
