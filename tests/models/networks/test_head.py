import pytest
import torch
from torch import Tensor, nn

from models.networks import blocks, head, zoo
from models.networks.head import Heads
from models.planning import catalogue
from tests.models.networks.families import FAMILIES
from topwork.errors import WeightsMismatch


def images_for(name: str) -> Tensor:
    facts = catalogue.get(name)
    side = facts.input_size if facts.fixed_size else max(facts.min_size, 48)
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def dropout_seen_before(model: nn.Module, layer: str, images: Tensor) -> float:
    """The rate of the dropout whose result the layer was given, found by watching a forward."""
    last: list[tuple[float, Tensor]] = []
    seen = 0.0

    def remember(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Dropout)
        last.append((module.p, output))

    def compare(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        # A view, as after flattening, is still the same memory.
        if last and last[-1][1].data_ptr() == inputs[0].data_ptr():
            seen = last[-1][0]

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(remember)
    model.get_submodule(layer).register_forward_pre_hook(compare)
    with torch.no_grad():
        model(images)
    return seen


@pytest.mark.parametrize("name", FAMILIES)
def test_head_after_trunk_is_the_network(name: str) -> None:
    torch.manual_seed(0)
    facts = catalogue.get(name)
    model = zoo.build(name).eval()
    heads = head.replace(model, 5)
    trunk, top = head.split(model, heads.main)
    images = images_for(name)
    with torch.no_grad():
        features = trunk(images)
        assert torch.equal(top.eval()(features), model(images))
        native = facts.input_size == images.shape[-1]
        assert native or features.dim() == 1 + len(facts.feature_shape)
        assert features.shape[1] == facts.feature_shape[0]
        # In eval mode a dropout gives its input through, so memory shows which one feeds the layer.
        assert top[0].p == dropout_seen_before(model, heads.main, images)


def test_training_the_split_head_trains_the_network() -> None:
    model = zoo.build("squeezenet1_1")
    heads = head.replace(model, 3)
    blocks.learn(model, blocks.blocks(model, heads, 4), 0)
    trunk, top = head.split(model, heads.main)
    with torch.no_grad():
        features = trunk(model.eval() and images_for("squeezenet1_1"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD(top.parameters(), lr=0.1)
    nn.functional.cross_entropy(top.train()(features), torch.tensor([0, 2])).backward()
    optimiser.step()
    changed = {
        name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])
    }
    assert changed == {"classifier.1.weight", "classifier.1.bias"}


def test_a_trunk_refuses_train_mode_and_leaves_no_hook() -> None:
    model = zoo.build("lenet")
    trunk, _ = head.split(model, "classifier.2")
    with pytest.raises(RuntimeError, match="eval mode"):
        trunk(images_for("lenet"))
    model.eval()
    assert trunk(images_for("lenet")).shape == (2, 84)
    assert not model.get_submodule("classifier.2")._forward_pre_hooks


def test_a_trunk_says_when_the_layer_is_never_reached() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(4, 4)
            self.unused = nn.Linear(4, 3)

        def forward(self, values: Tensor) -> Tensor:
            result: Tensor = self.used(values)
            return result

    trunk, _ = head.split(Odd().eval(), "unused")
    with pytest.raises(RuntimeError, match="never reached layer 'unused'"):
        trunk(torch.rand(1, 4))


def test_a_card_s_names_decide_where_inner_layers_match() -> None:
    # 84 classes: the layer before LeNet's head has as many outputs.
    model = zoo.build("lenet", 84)
    assert head.find(model, 84) == Heads("classifier.2", ("classifier.0",))
    known = Heads("classifier.2")
    assert head.replace(model, 6, known) == known
    assert model.get_submodule("classifier.2").out_features == 6
    assert model.get_submodule("classifier.0").out_features == 84
    with pytest.raises(WeightsMismatch, match="No layer of LeNet has 1000 outputs"):
        head.replace(model, 6)


@pytest.mark.parametrize("layer", ["classifier.9", "nothing.here", "features.1", "features"])
def test_a_card_with_wrong_names_is_refused(layer: str) -> None:
    with pytest.raises(WeightsMismatch, match=layer):
        head.replace(zoo.build("lenet", 5), 6, Heads(layer))


def test_a_new_head_keeps_type_place_and_bias() -> None:
    model = nn.Sequential(nn.Linear(8, 1000, bias=False)).double().to("meta")
    head.replace(model, 4)
    (layer,) = model
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (4, 8)
    assert layer.weight.dtype == torch.float64
    assert layer.weight.is_meta
    assert layer.bias is None


def test_auxiliary_logits_come_in_the_order_of_their_names() -> None:
    model = zoo.build("googlenet")
    heads = head.replace(model, 4)
    model.train().requires_grad_(requires_grad=False)
    for position, layer in enumerate(heads.auxiliary):
        linear = model.get_submodule(layer)
        assert isinstance(linear, nn.Linear)
        linear.weight.zero_()
        linear.bias.fill_(float(position))
    _, auxiliary = head.logits_of(model(images_for("googlenet")))
    assert [float(entry.mean()) for entry in auxiliary] == [0.0, 1.0]


def test_an_answer_that_is_no_logits_is_refused() -> None:
    with pytest.raises(TypeError, match="dict instead of logits"):
        head.logits_of({})
