"""A hash of what a picture shows: near-equal pictures have hashes that differ in few bits.

The signs of the lowest 256 frequencies of the picture's brightness, as in pHash (C. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), without its median: the
signs of a cosine transform are balanced by themselves. Saving anew as JPEG and scaling change few
of them; mirroring and turning change half.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # Pixels, to which a picture is brought whatever its shape.
KEPT = 16  # Frequencies of each direction.
SIGN_BYTES = KEPT * KEPT // 8
BYTES = SIGN_BYTES + 3
LEAST_SIDE = KEPT  # Pixels; a smaller picture has fewer frequencies than are compared.
LEAST_CONTRAST = 2.0  # Of 0..255, as a root mean square, below which signs are noise.


def perceptual_hash(image: Image.Image) -> bytes | None:
    """Return the bytes of an RGB picture; None where it is blank or too small.

    Signs come first, low frequencies before high ones, then the mean of each colour, so that the
    same drawing in another colour is another picture.
    """
    if min(image.size) < LEAST_SIDE:
        return None
    factor = max(1, min(image.size) // (2 * SIDE))
    small = image.reduce(factor) if factor > 1 else image
    grey = small.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.frombuffer(grey.tobytes(), np.uint8).astype(np.float32).reshape(SIDE, SIDE)
    cosines, order = _transform()
    waves = (cosines @ pixels @ cosines.T).reshape(-1)[order]
    if np.vdot(waves[:-1], waves[:-1]) < _NOISE:
        return None
    colour = small.resize((1, 1), Image.Resampling.BOX).tobytes()
    return np.packbits(waves > 0).tobytes() + colour


# A cosine's square is a half in the mean, and so in both directions a quarter.
_NOISE = (LEAST_CONTRAST * SIDE * SIDE) ** 2 / 4


@cache
def _transform() -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the rows of the cosine transform (DCT-II), and its products by rising frequency."""
    waves, places = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    cosines = np.cos(np.pi * waves * (2 * places + 1) / (2 * SIDE))
    sums = np.add.outer(np.arange(KEPT), np.arange(KEPT)).reshape(-1)
    order = np.argsort(sums, kind="stable")
    # The mean comes last: its sign is always the same.
    return cosines.astype(np.float32), np.roll(order, -1)
