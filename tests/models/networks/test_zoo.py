import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.networks import head, zoo
from models.planning import catalogue
from tests.models.networks.families import all_of_which_others_are_slow
from topwork.errors import ArchitectureUnknown, WeightsMismatch

SMALLEST_SIDE = 8  # No smaller one can be asked for.


def side_of(facts: catalogue.Architecture) -> int:
    return facts.input_size if facts.fixed_size else max(facts.min_size, SMALLEST_SIDE)


def assert_seven_logits(name: str, model: nn.Module) -> None:
    facts = catalogue.get(name)
    heads = head.find(model)
    assert heads == head.Heads(facts.head, tuple(entry.layer for entry in facts.auxiliary))
    head.replace(model, 7)
    images = torch.rand(2, 3, side_of(facts), side_of(facts))
    with torch.no_grad():
        logits, auxiliary = head.logits_of(model.train()(images))
        assert [tuple(entry.shape) for entry in auxiliary] == [(2, 7)] * len(facts.auxiliary)
        assert logits.shape == (2, 7)
        answer = model.eval()(images)
    assert isinstance(answer, Tensor)
    assert answer.shape == (2, 7)
    assert bool(torch.isfinite(answer).all())


@pytest.mark.parametrize("name", all_of_which_others_are_slow())
def test_a_swapped_head_gives_seven_logits(name: str) -> None:
    torch.manual_seed(0)
    assert_seven_logits(name, zoo.build(name))


def images_for(name: str) -> Tensor:
    side = side_of(catalogue.get(name))
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def answers(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        result = model.eval()(images)
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize(
    "name",
    # Each has something a shell could get wrong: tables in buffers, widths computed from tensors,
    # auxiliary heads, versioned layers, scaled parameters.
    [
        "swin_v2_t",
        "maxvit_t",
        "regnet_y_400mf",
        "inception_v3",
        "mnasnet0_5",
        "convnext_tiny",
        "nin",
    ],
)
def test_given_weights_give_the_same_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    drawn = zoo.build(name, 9)
    save_file(drawn.state_dict(), tmp_path / "w.safetensors")
    loaded = zoo.build(name, 9, pretrained_state=tmp_path / "w.safetensors")
    assert all(not tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.training
    for key, tensor in drawn.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    # Kernels add up in another order where the file's tensors lie differently in memory.
    pairs = answers(drawn, images_for(name)), answers(loaded, images_for(name))
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-5)


def test_from_scratch_the_caller_s_seed_decides() -> None:
    def first(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return next(zoo.build("lenet", 10).parameters())

    assert torch.equal(first(5), first(5))
    assert not torch.equal(first(5), first(6))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_train_and_go_at_inference(name: str) -> None:
    torch.manual_seed(0)
    training = zoo.build(name, 5)
    state = training.state_dict()
    serving = zoo.build(name, None, pretrained_state=state, auxiliary=False)
    modules = {entry.module for entry in catalogue.get(name).auxiliary}
    kept = {key.partition(".")[0] for key in serving.state_dict()}
    assert not modules & kept
    assert torch.equal(answers(training, images_for(name)), answers(serving, images_for(name)))
    # An artefact stored without them can be loaded for more training, then without them too.
    again = zoo.build(name, 5, pretrained_state=serving.state_dict())
    assert not modules & {key.partition(".")[0] for key in again.state_dict()}
    assert head.logits_of(again.train()(images_for(name)))[1] == ()


def test_the_published_input_scaling_of_the_inceptions_is_on() -> None:
    for name in ("googlenet", "inception_v3"):
        model: Any = zoo.shell(name)
        assert model.transform_input is True


def test_classes_are_read_from_the_weights_or_must_match() -> None:
    state = zoo.build("lenet", 12).state_dict()
    model = zoo.build("lenet", None, pretrained_state=state)
    assert model.get_submodule("classifier.2").out_features == 12
    with pytest.raises(WeightsMismatch, match=r"classifier\.2\.weight.*\(12, 84\).*\(7, 84\)"):
        zoo.build("lenet", 7, pretrained_state=state)


def test_differences_are_named_and_nothing_is_filled_up() -> None:
    state = dict(zoo.build("lenet", 10).state_dict())
    del state["features.0.bias"]
    with pytest.raises(WeightsMismatch, match=r"1 tensors differ, first 'features\.0\.bias' is mi"):
        zoo.build("lenet", 10, pretrained_state=state)
    state = {**zoo.build("lenet", 10).state_dict(), "extra.weight": torch.zeros(1)}
    with pytest.raises(WeightsMismatch, match=r"'extra\.weight' does not belong"):
        zoo.build("lenet", 10, pretrained_state=state)
    with pytest.raises(WeightsMismatch, match=r"no layer 'classifier\.2'"):
        zoo.build("lenet", None, pretrained_state={})


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not tensors")
    with pytest.raises(WeightsMismatch, match=r"bad\.safetensors"):
        zoo.build("lenet", 10, pretrained_state=bad)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ArchitectureUnknown):
        zoo.build("resnet19")


def test_half_precision_weights_become_float32() -> None:
    state = {name: tensor.half() for name, tensor in zoo.build("lenet", 4).state_dict().items()}
    model = zoo.build("lenet", 4, pretrained_state=state)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_training_never_writes_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(zoo.build("lenet", 3).state_dict(), path)
    before = path.read_bytes()
    model = zoo.build("lenet", 3, pretrained_state=path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert path.read_bytes() == before


def test_a_network_with_given_weights_can_be_copied_and_trained() -> None:
    model = copy.deepcopy(
        zoo.build("lenet", 3, pretrained_state=zoo.build("lenet", 3).state_dict())
    )
    model(images_for("lenet")).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
