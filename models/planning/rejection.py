"""What share of known images is let through, and from how many images that can be said; no torch.

The trainer, the classifier and the api use it.
"""

import math
from typing import Any

COVERAGE = 0.95  # Of images of the model's classes, where a request asks for no other share.
# From fewer images the true share may lie more than five per cent below the stated one.
LEAST_IMAGES = 50
NO_REFERENCES = "no images of its classes are kept with it"
TOO_FEW = "{} images that did not train what answers for them are too few; {} are needed"


def accepted_images(images: int, coverage: float) -> int:
    """Return how many of n images two thresholds must accept, so that a further one is accepted.

    Its chance is then at least `coverage`. Each threshold lies at one of the images, and a further
    image falls between any two neighbours as likely as between others: (n - 1 - rejected) / (n + 1)
    is accepted on average, or more where both lie at the same image (Campi and Garatti, Journal of
    Optimization Theory and Applications 148, 2011). More images than there are cannot promise it.
    """
    return math.ceil((images + 1) * coverage - 1e-9) + 1


def unavailable(card: dict[str, Any], coverage: float) -> str | None:
    """Return why a model cannot abstain at this coverage, by its card; None if it can."""
    stated = card.get("rejection") or {}
    if stated.get("reason") or "images" not in stated:
        return str(stated.get("reason") or NO_REFERENCES)
    images = int(stated["images"])
    if accepted_images(images, coverage) > images:
        return f"its {images} images cannot promise a share of {coverage:g}"
    return None
