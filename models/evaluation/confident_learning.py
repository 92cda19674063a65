"""Images whose labels are likely wrong, by confident learning (Northcutt et al., arXiv:1911.00068).

It needs what a network that had not seen an image says about it, and no network of its own. A class
counts for an image where its probability reaches the mean that images of the class have: so a
network that is unsure of a whole class does not accuse all of its images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CLOSE = 1e-6  # Below its threshold a probability still counts, as rounding may have put it there.


@dataclass(frozen=True)
class LabelErrors:
    """What confident learning says of n images.

    Attributes:
        flagged: Whether the label is likely wrong, bool (n,).
        scores: 1 minus the probability of the given class, float64 (n,), 0..1.
        likely: Number of the most probable class, (n,).
    """

    flagged: Tensor
    scores: Tensor
    likely: Tensor


def label_errors(shares: Tensor, labels: Tensor) -> LabelErrors:
    """Return which labels are likely wrong.

    From each class as many images are taken for another one as the confident joint counts, those
    with the largest margin between the two probabilities ("prune by noise rate"). No label is
    flagged that is itself the most probable.

    Args:
        shares: Probabilities of the classes, float64 (n, classes), by networks that had not seen
            the image.
        labels: Class numbers that the images were given, (n,).
    """
    likely = shares.argmax(1)
    flagged = torch.zeros(len(labels), dtype=torch.bool)
    for given, row in enumerate(confident_joint(shares, labels)):
        own = (labels == given).nonzero()[:, 0]
        for other, count in enumerate(row.tolist()):
            if other != given and count:
                margins = shares[own, other] - shares[own, given]
                flagged[own[margins.topk(count).indices]] = True
    own_shares = shares.gather(1, labels[:, None])[:, 0]
    return LabelErrors(flagged & (likely != labels), 1 - own_shares, likely)


def confident_joint(shares: Tensor, labels: Tensor) -> Tensor:
    """Return how many images given a class (rows) seem to be of each class (columns), int64.

    An image counts for the most probable class of those whose threshold it reaches; each row is
    brought to the number of images of its class.

    Args:
        shares: Probabilities, float64 (n, classes).
        labels: Class numbers, (n,).
    """
    classes = shares.shape[1]
    given = torch.nn.functional.one_hot(labels, classes).double()
    sizes = given.sum(0)
    thresholds = (shares * given).sum(0) / sizes  # NaN of a class without images, which none seems.
    sure = shares >= thresholds - CLOSE
    counted = sure.any(1)
    seems = torch.where(sure, shares, -1.0).argmax(1)[counted]
    joint = torch.zeros(classes, classes, dtype=torch.float64)
    joint.index_put_((labels[counted], seems), torch.ones(len(seems)).double(), accumulate=True)
    rows = joint.sum(1, keepdim=True)
    return _whole(torch.where(rows > 0, joint * sizes[:, None] / rows, torch.diag(sizes)))


def _whole(joint: Tensor) -> Tensor:
    """Round each row to whole numbers of the same sum, those with the largest rest upwards."""
    down = joint.floor()
    missing = (joint.sum(1) - down.sum(1)).round()
    places = (joint - down).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (down + (places < missing[:, None])).long()
