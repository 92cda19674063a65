"""LeNet-5 for RGB images of 32 x 32 pixels.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, section II.B.
"""

from torch import Tensor, nn


class LeNet(nn.Module):
    """Map (N, 3, 32, 32) to logits (N, classes); 62 006 parameters for 10 classes.

    Layer sizes are the paper's (C1 6, S2, C3 16, S4, C5 120, F6 84). Where the paper's parts have
    since been replaced everywhere, this is the modern reading: C3 sees all six maps instead of the
    table of connections, S2 and S4 take the maximum instead of a trained average, ReLU stands for
    the scaled tanh, and a linear layer with softmax for the radial basis output. As in the
    paper the subsampling comes before the nonlinearity, which then has a quarter of the work.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 120, kernel_size=5),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(120, 84), nn.ReLU(inplace=True), nn.Linear(84, num_classes)
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # All of these layers have one.

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
