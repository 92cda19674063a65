"""Say which changed copies of images are found, and how many: python bench/near_duplicates.py.

Every image is an original; each of SAMPLE of them is changed in one way at a time, and searched
among all. Recall counts copies that are put into their original's cluster. Precision counts, of all
copies that are put into a cluster, those that are with their own original; sets hold duplicates of
their own, which the clusters of originals alone tell. `--many N` clusters N hashes, of which a
hundredth are near copies, and gives time and peak memory.
"""

import argparse
import io
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.imaging.decode import decode
from core.imaging.miniature import miniature
from core.imaging.perceptual_hash import BYTES, perceptual_hashes
from core.ingest.near_duplicates import clusters

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = ("hymenoptera", "cifar10")
SAMPLE = 1000


def main() -> None:
    """Print a table for each set, or the time of many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, help="only cluster so many made hashes")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the archives")
    asked = parser.parse_args()
    if asked.many:
        many(asked.many)
        return
    for name in SETS:
        measure(asked.data / f"{name}.zip")


def saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Return the change that JPEG of a quality makes."""

    def change(image: Image.Image) -> Image.Image:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        return decode(out.getvalue())

    return change


def cropped(image: Image.Image) -> Image.Image:
    """Leave out a fortieth on each side."""
    x, y = max(1, image.width // 40), max(1, image.height // 40)
    return image.crop((x, y, image.width - x, image.height - y))


def marked(image: Image.Image) -> Image.Image:
    """Write a word into the middle."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    draw.text((image.width / 2, image.height / 2), "SAMPLE", "white", anchor="mm",
              font_size=max(6, image.height // 8))  # fmt: skip
    return image


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"quality {quality}": saved(quality) for quality in (30, 50, 75, 95)},
    "half size": lambda it: it.resize((it.width // 2, it.height // 2)),
    "5 % crop": cropped,
    "mirrored": lambda it: it.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "grey": lambda it: it.convert("L").convert("RGB"),
    "watermark": marked,
}


def measure(archive: Path) -> None:
    """Print recall and precision of each change."""
    with zipfile.ZipFile(archive) as file:
        names = [it for it in file.namelist() if it.endswith((".jpg", ".png"))]
        order = np.random.default_rng(0).permutation(len(names))[:SAMPLE]
        chosen = {names[at] for at in order}
        hashes: list[bytes] = []
        images: dict[int, Image.Image] = {}
        for name in names:
            image = decode(file.read(name))
            (found,) = perceptual_hashes([miniature(image)])
            if found is not None and name in chosen:
                images[len(hashes)] = image
            hashes += [found] if found is not None else []
    own = clusters(hashes)
    print(f"{archive.stem}: {len(hashes)} images, {len(own)} clusters of their own,"
          f" {sum(map(len, own))} images in them")  # fmt: skip
    mates = {at: set(group) for group in own for at in group}
    for name, change in CHANGES.items():
        right = wrong = 0
        copies = perceptual_hashes([miniature(change(image)) for image in images.values()])
        known = [(at, it) for at, it in zip(images, copies, strict=True) if it is not None]
        groups = clusters([*hashes, *(it for _, it in known)])
        where = {position: group for group in groups for position in group}
        for number, (at, _) in enumerate(known, len(hashes)):
            found_in = {it for it in where.get(number, []) if it < len(hashes)}
            right += at in found_in
            wrong += bool(found_in - mates.get(at, {at}))
        share = right / (right + wrong) if right + wrong else float("nan")
        print(f"  {name:12} recall {right / len(copies):.4f} precision {share:.4f}")


def many(count: int) -> None:
    """Cluster made hashes."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (count, BYTES), np.uint8)
    copies = count // 100
    rows[count - copies :] = rows[:copies]
    for byte in range(4):
        rows[count - copies :, 7 * byte] ^= 1 << byte
    hashes = [row.tobytes() for row in rows]
    started = time.perf_counter()
    found = len(clusters(hashes))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} hashes: {found} of {copies} clusters, {seconds:.0f} s, {peak} MiB")


if __name__ == "__main__":
    main()
