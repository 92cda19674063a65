"""Pictures that show nearly the same are found, told with both files, and kept on one side."""

import io
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from core.imaging.miniature import miniature
from core.imaging.perceptual_hash import perceptual_hashes
from core.ingest.groups import told
from core.ingest.near_duplicates import MOST_BITS, MOST_LOW, clusters
from tests.archives import zip_of
from tests.core.ingested import Ingest


def scene(seed: int) -> Image.Image:
    """A picture with large and small shapes; every seed gives another one."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((240, 320, 3))
    for cells in (4, 8, 16):
        part = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        pixels += np.asarray(Image.fromarray(part).resize((320, 240), Image.Resampling.BICUBIC))
    return Image.fromarray((pixels / 3).astype(np.uint8))


def saved(image: Image.Image, quality: int = 95) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def hashed(image: Image.Image) -> bytes:
    (found,) = perceptual_hashes([miniature(Image.open(io.BytesIO(saved(image))).convert("RGB"))])
    assert found is not None
    return found


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality": lambda it: Image.open(io.BytesIO(saved(it, 30))).convert("RGB"),
    "half": lambda it: it.resize((160, 120)),
    "double": lambda it: it.resize((640, 480)),
}
OTHERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "colour": lambda it: Image.merge("RGB", [it.getchannel(c) for c in "BRG"]).point(
        [min(255, value + 60 * (n == 0)) for n in range(3) for value in range(256)]
    ),
    "turned": lambda it: it.transpose(Image.Transpose.ROTATE_180),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near(change: str) -> None:
    hashes = [hashed(scene(seed)) for seed in range(30)]
    hashes += [hashed(CHANGES[change](scene(seed))) for seed in range(30)]
    assert sorted(clusters(hashes)) == [[seed, seed + 30] for seed in range(30)]


@pytest.mark.parametrize("change", OTHERS)
def test_another_picture_is_not(change: str) -> None:
    hashes = [hashed(scene(seed)) for seed in range(30)]
    assert clusters([*hashes, *(hashed(OTHERS[change](scene(seed))) for seed in range(30))]) == []


def test_a_blank_or_tiny_picture_has_no_hash() -> None:
    blank = [Image.new("RGB", (50, 40), colour) for colour in ("white", "black", "#123456")]
    pictures = [scene(1), scene(1).resize((64, 15)), *blank, scene(2), scene(1).resize((15, 64))]
    found = perceptual_hashes([miniature(it) for it in pictures])
    assert [it is not None for it in found] == [True, *4 * [False], True, False]
    assert [found[5]] == perceptual_hashes([miniature(scene(2))])
    assert perceptual_hashes([]) == []


def test_bands_find_what_all_pairs_find() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (400, 35), np.uint8)
    rows[:, 32:] = 100
    for at in range(200, 400):  # Copies with up to twelve bits of the low and forty of all turned.
        bits = np.unpackbits(rows[at - 200, :32])
        bits[rng.choice(64, at % 13, replace=False)] ^= 1
        bits[64 + rng.choice(192, at % 29, replace=False)] ^= 1
        rows[at, :32] = np.packbits(bits)
    expected = set()
    for one in range(400):
        differ = np.unpackbits(rows[one, :32] ^ rows[:, :32], axis=1)
        near = (differ[:, :64].sum(1) <= MOST_LOW) & (differ.sum(1) <= MOST_BITS)
        expected |= {(one, int(other)) for other in np.flatnonzero(near) if other > one}
    found = clusters([row.tobytes() for row in rows])
    assert 50 < len(expected) < 150
    assert sorted(map(tuple, found)) == sorted(expected)


def test_many_copies_are_one_cluster() -> None:
    same = hashed(scene(1))
    assert clusters([same] * 50_000 + [hashed(scene(2))]) == [list(range(50_000))]
    assert clusters([]) == []


def burst(*folders: str, first: int, count: int = 20) -> dict[str, bytes]:
    """Every scene five times, at five qualities."""
    return {
        f"{folder}/{seed}-{quality}.jpg": saved(scene(1000 * at + first + seed), quality)
        for at, folder in enumerate(folders)
        for seed in range(count)
        for quality in (50, 60, 70, 80, 90)
    }


def test_a_cluster_stays_on_one_side_unless_asked_otherwise(run: Ingest) -> None:
    data = zip_of(burst("cat", "dog", first=0, count=8))

    def torn(place: dict[str, tuple[str, str]]) -> int:
        sides: dict[str, set[str]] = {}
        for path, (split, _) in place.items():
            sides.setdefault(path.partition("-")[0], set()).add(split)
        return sum(len(it) > 1 for it in sides.values())

    done = run(data)
    assert torn(done.places) == 0
    assert done.dataset["counts"]["val"] == {"cat": 5, "dog": 5}
    assert {it["code"] for it in done.dataset["findings"]} == {"near_duplicate"}
    mixed = run(data, {"group_by": "none"}, name="mixed")
    assert torn(mixed.places) > 4
    assert "near_leak" in {it["code"] for it in mixed.dataset["findings"]}


def test_leaks_and_conflicts_name_both_files(run: Ingest) -> None:
    files = {f"train/cat/{n}.jpg": saved(scene(n)) for n in range(4)}
    files |= {f"train/dog/{n}.jpg": saved(scene(10 + n)) for n in range(4)}
    files |= {"val/cat/a.jpg": saved(scene(1), 50), "val/dog/b.jpg": saved(scene(12), 50)}
    files |= {"val/dog/c.jpg": saved(scene(3), 50)}
    done = run(zip_of(files))
    words = {row["path"]: (row["code"], row["message"].rpartition(": ")[2]) for row in done.report}
    assert words == {
        "train/cat/1.jpg": ("near_leak", "val/cat/a.jpg."),
        "val/cat/a.jpg": ("near_leak", "train/cat/1.jpg."),
        "train/dog/2.jpg": ("near_leak", "val/dog/b.jpg."),
        "val/dog/b.jpg": ("near_leak", "train/dog/2.jpg."),
        "train/cat/3.jpg": ("near_conflict", "val/dog/c.jpg."),
        "val/dog/c.jpg": ("near_conflict", "train/cat/3.jpg."),
    }


def film(frames: int) -> list[bytes]:
    """Hashes of one picture, each with ten bits turned outside the lowest frequencies."""
    rng = np.random.default_rng(0)
    rows = np.tile(rng.integers(0, 256, 35, np.uint8), (frames, 1))
    for row in rows:
        for bit in rng.choice(192, 10, replace=False):
            row[8 + bit // 8] ^= 1 << (bit % 8)
    return [row.tobytes() for row in rows]


def test_a_long_film_takes_little_time_and_memory() -> None:
    hashes = film(4000)  # Eight million near pairs, of which no two hashes are equal.
    started = time.process_time()
    tracemalloc.start()
    try:
        assert clusters(hashes) == [list(range(4000))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert time.process_time() - started < 20  # Joined one pair after the other: ten minutes.


def test_a_star_and_a_chain_are_one_cluster_each() -> None:
    rows = np.zeros((40, 35), np.uint8)
    rows[20:, 34] = 200  # Another colour.
    for at in range(1, 20):  # Three bits from the first, and six from each other.
        rows[at, :8] = np.packbits([3 * at <= bit < 3 * at + 3 for bit in range(64)])
    for at in range(1, 20):  # Three bits from the one before it.
        rows[20 + at, :8] = np.packbits([bit < 3 * at for bit in range(64)])
    order = np.random.default_rng(0).permutation(40)
    found = clusters([row.tobytes() for row in rows[order]])
    assert {frozenset(order[group].tolist()) for group in found} == {
        frozenset(range(20)), frozenset(range(20, 40)),
    }  # fmt: skip


def test_what_is_told_of_a_large_group_names_the_first_contrary_file() -> None:
    lines = [
        {"sha256": f"{n:05}", "path": f"{n:05}.jpg", "class": "abc"[n % 3], "split": "train"}
        for n in range(20_000)
    ]
    started = time.process_time()
    found = told(lines, [[it["sha256"] for it in lines if it["class"] == "a"]])
    assert found["near_conflict"] == {}
    assert len(found["near_duplicate"]) == 6666
    lines[3]["split"], lines[7]["class"] = "val", "a"
    found = told(lines, [[it["sha256"] for it in lines if it["class"] == "a"]])
    assert found["near_leak"]["00003.jpg"].endswith(": 00000.jpg.")
    assert {it.rpartition(": ")[2] for it in found["near_leak"].values()} == {
        "00000.jpg.", "00003.jpg.",
    }  # fmt: skip
    found = told(lines, [[it["sha256"] for it in lines]])
    assert found["near_conflict"]["00000.jpg"].endswith(": 00001.jpg.")
    assert found["near_conflict"]["00001.jpg"].endswith(": 00000.jpg.")
    assert time.process_time() - started < 2
