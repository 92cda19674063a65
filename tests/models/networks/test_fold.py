"""Trunks as graphs: the same features from fewer operations, the network left as it was."""

import pytest
import torch
from torch import fx, nn

from models.networks import zoo
from models.networks.fold import folded
from models.networks.head import Trunk
from models.planning import catalogue
from tests.models.networks.families import all_of_which_others_are_slow

# Plain, depthwise, pre-activated, auxiliary heads, a convolutional head, attention, our own.
NETWORKS = [
    "resnet18",
    "mobilenet_v2",
    "densenet121",
    "googlenet",
    "squeezenet1_1",
    "vit_b_16",
    "nin",
]


def trained_a_little(name: str) -> nn.Module:
    """A network whose running statistics are no longer those of a fresh one."""
    torch.manual_seed(0)
    model = zoo.build(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_network(name: str) -> None:
    facts = catalogue.get(name)
    model = trained_a_little(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    size = facts.input_size if facts.fixed_size else max(facts.min_size, 64)
    images = torch.randn(2, 3, size, size)
    trunk = folded(model, facts.head)
    with torch.inference_mode():
        wanted, got = Trunk(model, facts.head)(images), trunk(images)
    assert isinstance(trunk, fx.GraphModule)
    apart = (got - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert float(apart.max()) < 1e-5
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", all_of_which_others_are_slow())
def test_every_network_can_be_cut_and_folded(name: str) -> None:
    """On shapes alone: a head job of a network that cannot be traced would be slower, or fail."""
    trunk = folded(zoo.shell(name).eval(), catalogue.get(name).head)
    assert isinstance(trunk, fx.GraphModule)


def test_only_normalisation_right_after_its_own_convolution_goes() -> None:
    def left(name: str) -> int:
        trunk = folded(trained_a_little(name), catalogue.get(name).head)
        return sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())

    assert left("resnet18") == 0
    assert left("densenet121") > 0  # It normalises before the convolution.


class Undecided(nn.Module):
    """A network that looks at its values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Flatten(), nn.Linear(12, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.first(images)
        if values.sum() > 0:
            values = -values
        return self.head(values)


class Twice(nn.Module):
    """One convolution in two places, and one whose answer is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.head = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norm, self.next = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        once = self.norm(self.conv(images))
        again = self.other(self.conv(once))
        return self.head(self.next(again) + again)


def test_a_path_that_depends_on_values_stays() -> None:
    model = Undecided().eval()
    trunk = folded(model, "head")
    for sign in (1, -1):
        images = sign * torch.ones(1, 3, 2, 2)
        assert torch.equal(trunk(images), -torch.ones(1, 12))


def test_what_is_read_elsewhere_is_not_changed() -> None:
    model = Twice().eval()
    for norm in (model.norm, model.next):
        assert norm.running_var is not None
        norm.running_var.fill_(4.0)
    images = torch.rand(2, 3, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(folded(model, "head")(images), Trunk(model, "head")(images))
