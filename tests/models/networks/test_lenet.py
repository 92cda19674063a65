import torch

from models.networks.lenet import LeNet


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_layers_are_the_paper_s() -> None:
    model = LeNet(10)
    shapes = []
    for layer in (*model.features, *model.classifier):
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    c1, s2, _, c3, s4, _, c5 = shapes[:7]
    assert (c1, s2, c3, s4, c5) == (
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (120, 1, 1),
    )
    assert shapes[-3:] == [(84,), (84,), (10,)]


def test_parameters() -> None:
    # C1 456, C3 2416, C5 48 120, F6 10 164, output 850. The paper's C1 has 156 for its one channel.
    assert count(LeNet(10)) == 62_006


def test_it_learns() -> None:
    torch.manual_seed(0)
    model = LeNet(4)
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 4
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(80):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2
