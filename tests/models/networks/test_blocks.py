from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models.networks import blocks, zoo
from models.networks.head import Heads
from models.planning import catalogue
from tests.models.networks.families import all_of_which_others_are_slow


def heads_of(name: str) -> Heads:
    facts = catalogue.get(name)
    return Heads(facts.head, tuple(one.layer for one in facts.auxiliary))


@pytest.mark.parametrize("name", all_of_which_others_are_slow())
def test_every_network_falls_into_blocks_that_hold_each_weight_of_the_trunk_once(name: str) -> None:
    model, heads = zoo.shell(name), heads_of(name)
    cut = blocks.blocks(model, heads, 4)
    assert 2 <= len(cut) <= 4
    apart = (heads.main, *(one.module for one in catalogue.get(name).auxiliary))
    for parameter, _ in model.named_parameters():
        held = sum(blocks.holds(block, parameter) for block in cut)
        assert held == (0 if blocks.holds(apart, parameter) else 1), parameter


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("resnet18", ("layer4.0", "layer4.1"), ("conv1", "bn1", "layer1.0")),
        ("alexnet", ("classifier.4",), ("features.0", "features.3")),
    ],
)
def test_the_first_block_is_next_to_the_head(
    name: str, first: tuple[str, ...], last: tuple[str, ...]
) -> None:
    cut = blocks.blocks(zoo.shell(name), heads_of(name), 4)
    assert cut[0] == first
    assert cut[-1] == last


def test_a_transformer_is_cut_between_its_layers() -> None:
    cut = blocks.blocks(zoo.shell("vit_b_16"), heads_of("vit_b_16"), 4)
    assert "encoder.layers.encoder_layer_11" in cut[0]
    assert {"class_token", "conv_proj", "encoder.pos_embedding"} <= set(cut[-1])


def note(seen: list[str], unit: str, *_: object) -> None:
    seen.append(unit)


def test_units_follow_each_other_as_the_data_flows() -> None:
    for name in ("mobilenet_v3_small", "googlenet", "squeezenet1_1", "shufflenet_v2_x0_5", "lenet"):
        model, heads = zoo.build(name).eval(), heads_of(name)
        modules = dict(model.named_modules())
        seen: list[str] = []
        for unit in (one for one in blocks.units(model, heads) if one in modules):
            modules[unit].register_forward_hook(partial(note, seen, unit))
        side = catalogue.get(name).input_size
        with torch.no_grad():
            model(torch.rand(1, 3, side, side))
        assert seen == blocks.units(model, heads)


def learning(model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def test_frozen_blocks_neither_learn_nor_count() -> None:
    model, heads = zoo.build("resnet18", 3), heads_of("resnet18")
    cut = blocks.blocks(model, heads, 4)
    blocks.learn(model, cut, 0)
    assert learning(model) == {"fc.weight", "fc.bias"}
    before = {name: value.clone() for name, value in model.named_buffers()}

    def changed() -> set[str]:
        model(torch.rand(2, 3, 64, 64))
        return {name for name, value in model.named_buffers() if not value.equal(before[name])}

    assert not changed()
    blocks.learn(model, cut, 1)
    assert {name.split(".")[0] for name in learning(model)} == {"fc", "layer4"}
    assert {name.split(".")[0] for name in changed()} == {"layer4"}
    blocks.learn(model, cut, len(cut))
    assert all(value.requires_grad for value in model.parameters())


def test_a_lone_parameter_can_be_frozen() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))
            self.body = nn.Linear(3, 3)
            self.fc = nn.Linear(3, 2)

        def forward(self, values: Tensor) -> Tensor:
            result: Tensor = self.fc(self.body(values + self.token))
            return result

    model = Odd()
    cut = blocks.blocks(model, Heads("fc"), 2)
    assert cut == [("body",), ("token",)]
    blocks.learn(model, cut, 1)
    assert learning(model) == {"body.weight", "body.bias", "fc.weight", "fc.bias"}
