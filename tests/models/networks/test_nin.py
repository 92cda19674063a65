import torch

from models.networks.nin import NiN


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_those_of_the_authors_cifar_network() -> None:
    # 14 592 + 30 880 + 15 456, 460 992 + 2 x 37 056, 331 968 + 37 056 + 1 930.
    assert count(NiN(10)) == 966_986


def test_the_last_layer_is_one_map_per_class_averaged_over_space() -> None:
    model = NiN(10).eval()
    images = torch.rand(2, 3, 32, 32)
    maps = model.classifier[0](model.features(images))
    assert maps.shape == (2, 10, 8, 8)
    torch.testing.assert_close(model(images), maps.mean((2, 3)))


def test_larger_images_work() -> None:
    assert NiN(3).eval()(torch.rand(1, 3, 96, 64)).shape == (1, 3)


def test_it_learns_and_no_class_dies() -> None:
    torch.manual_seed(0)
    model = NiN(4)
    labels = torch.arange(16) % 4
    # A class is a colour under noise.
    images = torch.eye(4)[labels][:, :3, None, None] + 0.3 * torch.randn(16, 3, 16, 16)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
