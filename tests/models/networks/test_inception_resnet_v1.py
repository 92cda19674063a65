import torch
from torch import nn

from models.networks import zoo
from models.networks.inception_resnet_v1 import InceptionResNetV1, _block_a, _Residual


def test_parameters() -> None:
    model = zoo.shell("inception_resnet_v1")
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_756_328


def test_the_trunk_has_as_many_parameters_as_the_published_face_network_s() -> None:
    # facenet-pytorch's InceptionResnetV1 has 23 482 624 without classes, of which its sixth block
    # C (1 600 768), its embedding (917 504) and the norm after that (1024) are not in the paper.
    model = zoo.shell("inception_resnet_v1")
    head = sum(parameter.numel() for parameter in model.classifier.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total - head == 23_482_624 - 1_600_768 - 917_504 - 1024


def test_maps_have_the_sizes_of_the_paper_s_figures() -> None:
    model = InceptionResNetV1(3).to("meta")
    stem, blocks = [], []
    for layer in model.stem:
        layer.register_forward_hook(lambda _, __, output: stem.append(tuple(output.shape[1:])))
    for layer in model.blocks:
        layer.register_forward_hook(lambda _, __, output: blocks.append(tuple(output.shape[1:])))
    assert model(torch.rand(1, 3, 299, 299, device="meta")).shape == (1, 3)
    assert stem == [
        (32, 149, 149),
        (32, 147, 147),
        (64, 147, 147),
        (64, 73, 73),
        (80, 73, 73),
        (192, 71, 71),
        (256, 35, 35),
    ]
    assert blocks == [
        *5 * [(256, 35, 35)],
        *11 * [(896, 17, 17)],
        *6 * [(1792, 8, 8)],
    ]


def test_the_projection_is_linear_and_scaled() -> None:
    torch.manual_seed(0)
    block = _block_a().eval()
    maps = torch.randn(1, 256, 5, 5)
    with torch.no_grad():
        added = block.project(block.branches(maps))
        assert float(added.min()) < 0 < float(added.max())
        torch.testing.assert_close(block(maps), (maps + 0.17 * added).clamp(min=0))


def test_only_the_projections_go_without_normalisation() -> None:
    model = zoo.shell("inception_resnet_v1")
    residuals = [module for module in model.modules() if isinstance(module, _Residual)]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(residuals) == 20
    with_bias = [convolution for convolution in convolutions if convolution.bias is not None]
    assert len(with_bias) == 20
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert norms == len(convolutions) - 20


def test_every_parameter_learns_from_small_images() -> None:
    torch.manual_seed(0)
    model = zoo.build("inception_resnet_v1", 4)
    loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 80, 80)), torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.parameters())
