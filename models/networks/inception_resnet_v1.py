"""Inception-ResNet-v1.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", 2016, https://arxiv.org/abs/1602.07261, figures 7, 10 to 15 and
table 1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]


class _Unit(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU; `valid` leaves out the border."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Size, *, stride: int = 1, valid: bool = False
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid else (height // 2, width // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False),
            nn.BatchNorm2d(outputs, eps=0.001),
            nn.ReLU(inplace=True),
        )


class _Branches(nn.ModuleList):
    """Run every branch on the same maps and stack the results along the channels."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self], 1)


def _chain(inputs: int, *layers: tuple[int, Size]) -> nn.Sequential:
    """Return units of (channels, kernel) one after the other."""
    units = []
    for outputs, kernel in layers:
        units.append(_Unit(inputs, outputs, kernel))
        inputs = outputs
    return nn.Sequential(*units)


class _Residual(nn.Module):
    """Add the branches, projected by a linear 1 x 1 convolution and scaled down, to the input."""

    def __init__(
        self, channels: int, stacked: int, scale: float, branches: Iterable[nn.Sequential]
    ) -> None:
        super().__init__()
        self.branches = _Branches(branches)
        # No ReLU and no normalisation here: figure 10 calls it linear.
        self.project = nn.Conv2d(stacked, channels, 1)
        self.scale = scale

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.scale * self.project(self.branches(maps)))


def _block_a() -> _Residual:
    """Return figure 10: 35 x 35 maps, 256 channels."""
    branches = (
        _chain(256, (32, 1)),
        _chain(256, (32, 1), (32, 3)),
        _chain(256, (32, 1), (32, 3), (32, 3)),
    )
    return _Residual(256, 3 * 32, 0.17, branches)


def _block_b() -> _Residual:
    """Return figure 11: 17 x 17 maps, 896 channels."""
    branches = (_chain(896, (128, 1)), _chain(896, (128, 1), (128, (1, 7)), (128, (7, 1))))
    return _Residual(896, 2 * 128, 0.10, branches)


def _block_c() -> _Residual:
    """Return figure 13: 8 x 8 maps, 1792 channels."""
    branches = (_chain(1792, (192, 1)), _chain(1792, (192, 1), (192, (1, 3)), (192, (3, 1))))
    return _Residual(1792, 2 * 192, 0.20, branches)


def _down(inputs: int, outputs: int) -> _Unit:
    return _Unit(inputs, outputs, 3, stride=2, valid=True)


def _reduction_a() -> _Branches:
    """Return figure 7 with k, l, m, n = 192, 192, 256, 384 of table 1: 256 to 896 channels."""
    wide = nn.Sequential(_chain(256, (192, 1), (192, 3)), _down(192, 256))
    return _Branches([nn.MaxPool2d(3, stride=2), _down(256, 384), wide])


def _reduction_b() -> _Branches:
    """Return figure 12: 896 to 1792 channels."""
    return _Branches(
        [
            nn.MaxPool2d(3, stride=2),
            nn.Sequential(_chain(896, (256, 1)), _down(256, 384)),
            nn.Sequential(_chain(896, (256, 1)), _down(256, 256)),
            nn.Sequential(_chain(896, (256, 1), (256, 3)), _down(256, 256)),
        ]
    )


class InceptionResNetV1(nn.Module):
    """Map (N, 3, 299, 299) to logits (N, classes); 22 756 328 parameters for 1000 classes.

    The paper asks for residual scales between 0.1 and 0.3; those here (0.17, 0.10, 0.20) are the
    ones its authors used for the larger Inception-ResNet-v2.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(  # Figure 14.
            _Unit(3, 32, 3, stride=2, valid=True),
            _Unit(32, 32, 3, valid=True),
            _Unit(32, 64, 3),
            nn.MaxPool2d(3, stride=2),
            _Unit(64, 80, 1),
            _Unit(80, 192, 3, valid=True),
            _Unit(192, 256, 3, stride=2, valid=True),
        )
        self.blocks = nn.Sequential(  # Figure 15.
            *(_block_a() for _ in range(5)),
            _reduction_a(),
            *(_block_b() for _ in range(10)),
            _reduction_b(),
            *(_block_c() for _ in range(5)),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)  # The paper keeps 0.8.
        self.classifier = nn.Linear(1792, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        pooled = self.pool(self.blocks(self.stem(images))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits
