import torch
from torch import Tensor, nn

from models.networks import zoo
from models.networks.alexnet_lrn import AlexNetLRN, _normalisation


def test_parameters_are_the_paper_s() -> None:
    # 34 944 + 307 456 + 885 120 + 663 936 + 442 624 + 37 752 832 + 16 781 312 + 4 097 000: the
    # paper's "60 million".
    model = zoo.shell("alexnet_lrn")
    assert sum(parameter.numel() for parameter in model.parameters()) == 60_965_224


def test_maps_have_the_paper_s_sizes() -> None:
    model = AlexNetLRN(2).to("meta")
    shapes = []
    for layer in model.features:
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            layer.register_forward_hook(
                lambda _, __, output: shapes.append(tuple(output.shape[1:]))
            )
    assert model(torch.rand(1, 3, 224, 224, device="meta")).shape == (1, 2)
    assert shapes == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
    ]


def test_the_second_fourth_and_fifth_convolutions_see_half_the_maps() -> None:
    convolutions = [m for m in zoo.shell("alexnet_lrn").modules() if isinstance(m, nn.Conv2d)]
    assert [convolution.groups for convolution in convolutions] == [1, 2, 1, 2, 2]


def test_normalisation_follows_after_relu_in_the_first_two_layers() -> None:
    kinds = [type(layer).__name__ for layer in zoo.shell("alexnet_lrn").features]
    assert kinds[:8] == 2 * ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
    assert kinds.count("LocalResponseNorm") == 2


def paper_normalisation(maps: Tensor) -> Tensor:
    """Section 3.3 written out: b = a / (k + alpha * sum of a^2 over n neighbouring maps)^beta."""
    k, n, alpha, beta = 2.0, 5, 1e-4, 0.75
    channels = maps.shape[1]
    result = torch.empty_like(maps)
    for i in range(channels):
        low, high = max(0, i - n // 2), min(channels - 1, i + n // 2)
        total = (maps[:, low : high + 1] ** 2).sum(1)
        result[:, i] = maps[:, i] / (k + alpha * total) ** beta
    return result


def test_normalisation_is_the_paper_s_formula() -> None:
    maps = 200 * torch.rand(2, 12, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(_normalisation()(maps), paper_normalisation(maps))
