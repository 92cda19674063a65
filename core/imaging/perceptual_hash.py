"""A hash of what a picture shows: near-equal pictures have hashes that differ in few bits.

The signs of the lowest 256 frequencies of the picture's brightness, as in pHash (C. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), without its median: the
signs of a cosine transform are balanced by themselves. Saving anew as JPEG and scaling change few
of them; mirroring and turning change half.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.imaging.miniature import LEAST_SIDE, SIDE

KEPT = LEAST_SIDE  # Frequencies of each direction.
SIGN_BYTES = KEPT * KEPT // 8
BYTES = SIGN_BYTES + 3
LEAST_CONTRAST = 2.0  # Of 0..255, as a root mean square, below which signs are noise.
# A cosine's square is a half in the mean, and so in both directions a quarter.
_NOISE = (LEAST_CONTRAST * SIDE * SIDE) ** 2 / 4
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)  # Of red, green, blue: ITU-R BT.601.


def perceptual_hashes(miniatures: Sequence[bytes]) -> list[bytes | None]:
    """Return `BYTES` bytes for each picture; None where it is blank or was too small.

    Signs come first, low frequencies before high ones, then the mean of each colour, so that the
    same drawing in another colour is another picture. Many at once cost a tenth of one by one.

    Args:
        miniatures: As `miniature` gives them.
    """
    cosines, across, order = _transform()
    rows = np.frombuffer(b"".join(miniatures), np.uint8).reshape(-1, SIDE * 3).astype(np.float32)
    both = cosines @ (rows @ across).reshape(-1, SIDE, KEPT + 3)
    waves = both[:, :, :KEPT].reshape(-1, KEPT * KEPT)[:, order]
    shows = np.square(waves[:, :-1]).sum(axis=1) >= _NOISE
    signs = np.packbits(waves > 0, axis=1)
    means = np.rint(both[:, 0, KEPT:] / SIDE**2).astype(np.uint8)
    hashes = zip(np.concatenate((signs, means), axis=1), shows.tolist(), strict=True)
    found = (row.tobytes() if seen else None for row, seen in hashes)
    return [next(found) if it else None for it in miniatures]


@cache
def _transform() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
    """Return the rows of the cosine transform (DCT-II), and its products by rising frequency.

    Between them stands what turns a row of pixels into the waves of its brightness, and into three
    sums of its colours, which the first cosine, a constant, adds up over all rows.
    """
    waves, places = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    cosines = np.cos(np.pi * waves * (2 * places + 1) / (2 * SIDE))
    sums = np.add.outer(np.arange(KEPT), np.arange(KEPT)).reshape(-1)
    order = np.argsort(sums, kind="stable")
    # The mean comes last: its sign is always the same.
    across = np.hstack((np.kron(cosines.T, _BRIGHTNESS[:, None]), np.tile(np.eye(3), (SIDE, 1))))
    return cosines.astype(np.float32), across.astype(np.float32), np.roll(order, -1)
