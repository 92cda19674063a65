"""Network in Network, the CIFAR configuration.

M. Lin, Q. Chen, S. Yan, "Network In Network", 2013, https://arxiv.org/abs/1312.4400. Channel
counts, which the paper leaves open, are those of the authors' published CIFAR-10 set-up.
"""

from torch import Tensor, nn


def _mlpconv(inputs: int, outputs: tuple[int, int, int], kernel: int) -> list[nn.Module]:
    """Return one convolution and two 1 x 1 ones, each with a ReLU: the paper's micro network."""
    first, second, third = outputs
    return [
        nn.Conv2d(inputs, first, kernel, padding=kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, third, 1),
        nn.ReLU(inplace=True),
    ]


class NiN(nn.Module):
    """Map (N, 3, 32, 32) to logits (N, classes); 966 986 parameters for 10 classes.

    Larger images work too, as the last layer is one feature map per class, averaged over space.
    That layer has no ReLU here, though the authors' set-up has one: with it all classes fell to 0
    and stopped learning within 15 steps of SGD (CIFAR-10, learning rate 0.02), without it they
    learned.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        *third, classes, _ = _mlpconv(192, (192, 192, num_classes), 3)
        self.features = nn.Sequential(
            *_mlpconv(3, (192, 160, 96), 5),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Dropout(0.5),
            *_mlpconv(96, (192, 192, 192), 5),
            nn.AvgPool2d(3, stride=2, ceil_mode=True),
            nn.Dropout(0.5),
            *third,
        )
        self.classifier = nn.Sequential(classes, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # All of these layers have one.
        nn.init.normal_(classes.weight, 0.0, 0.01)  # type: ignore[arg-type]  # It is a convolution.

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
