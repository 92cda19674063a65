"""Measure heat maps: python bench/explain.py [--images N] [--architectures NAME...].

Deletion (Petsiuk et al., BMVC 2018, arXiv 1806.07421): what a heat map ranks highest is replaced by
a blurred copy of the image, in steps of one part in sixteen of the pixels; the mean of the class's
probability over all steps is smaller where the map has found what mattered. It is compared, image
by image, with the same map whose cells are shuffled, and with a map that is highest in the middle,
where photographers put things: the mean difference with its 95 % interval (percentile bootstrap of
2000 draws). Below 0 the map is better. Images are hymenoptera's `val/`, of a model that is trained
on its `train/`, and those of imagenet200.zip with the published weights.

Mosaics (grid pointing game: Böhle et al., CVPR 2021, arXiv 2104.00032): four images of different
first classes as one; printed is how much of what speaks for the class of one of them lies in its
quarter, of which a map that knows nothing, or only the middle, has 0.25.

Sanity (Adebayo et al., NeurIPS 2018, arXiv 1810.03292): maps of the same images and classes with a
random head, and with all weights random, must be others; printed is the mean rank correlation.

Weights are those of TOPWORK_WEIGHTS_DIR. `--develop` compares, on imagenet200 alone, what a class
is held against: nothing, the mean of all classes, or the others by their probability.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bench import plain, unknown
from models.inference import heatmap
from models.inference.classifier import Classifier, Crops
from models.inference.eager import Eager
from models.networks import head, tensorfile, zoo
from models.planning import heatmaps

STEPS = 16
BLUR = 12  # Pixels, the deviation of the Gaussian: no shape of a 224 pixel crop is left.
DRAWS = 2000
Cells = NDArray[np.float64]
Found = dict[str, list[float]]


def stretched(cells: Cells, side: int) -> Cells:
    """Return a map in pixels, without steps between its cells."""
    image = Image.fromarray(cells.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def deletion(classifier: Classifier, crop: Crops, ranking: Cells, index: int) -> float:
    """Return the mean probability of a class while its pixels go, those of the highest rank first.

    Of equal pixels those come first that lie nearest to the start of the image.
    """
    side = crop.shape[-1]
    picture = Image.fromarray(crop.transpose(1, 2, 0))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(BLUR))).transpose(2, 0, 1)
    places = np.argsort(-ranking.ravel(), kind="stable")
    series = np.tile(crop.reshape(3, -1), (STEPS + 1, 1, 1))
    for step in range(1, STEPS + 1):
        gone = places[: step * side * side // STEPS]
        series[step][:, gone] = blurred.reshape(3, -1)[:, gone]
    shares = classifier.forward(series.reshape(-1, 3, side, side))[:, index]
    return float((shares[1:] + shares[:-1]).mean() / 2)


def middle(shape: tuple[int, int]) -> Cells:
    """Return a map that is highest in its middle."""
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    return -(rows[:, None] ** 2) - columns**2


def interval(differences: Sequence[float]) -> str:
    """Return the mean of paired differences with its 95 % interval."""
    values = np.asarray(differences)
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    return f"{values.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def maps_of(classifier: Classifier, crop: Crops, *, develop: bool) -> tuple[dict[str, Cells], int]:
    """Return the map of the first class, for --develop also others of it, and the class."""
    engine = classifier.engine
    found = engine.mapped(crop[None])
    logits, maps = found.logits[0], found.maps[0]
    index = int(logits.argmax())
    rankings = {"map": heatmap.heat_map(logits, maps, engine.head, index).cells}
    if develop:
        mean = np.full(len(logits), -1 / len(logits))
        mean[index] += 1
        for name, weights in (("alone", np.eye(len(logits))[index]), ("mean", mean)):
            summands = weights if engine.head is None else weights @ engine.head.weight
            rankings[name] = np.tensordot(summands, maps.astype(np.float64), 1)
    return rankings, index


def measured(classifier: Classifier, crops: Iterator[Crops], *, develop: bool) -> Found:
    """Return the mean probability during each deletion, one for each image."""
    rng, found = np.random.default_rng(0), dict[str, list[float]]()
    for crop in crops:
        rankings, index = maps_of(classifier, crop, develop=develop)
        cells = rankings["map"]
        rankings["shuffled"] = rng.permutation(cells.ravel()).reshape(cells.shape)
        rankings["middle"] = middle(cells.shape)
        for name, ranking in rankings.items():
            pixels = stretched(ranking, crop.shape[-1])
            found.setdefault(name, []).append(deletion(classifier, crop, pixels, index))
    return found


def mosaics(classifier: Classifier, crops: Sequence[Crops]) -> None:
    """Print how much of the map of each image's class lies in its quarter of four images."""
    engine, (_, side, _) = classifier.engine, crops[0].shape
    first = [int(classifier.logits(crop[None]).argmax()) for crop in crops]
    half, shares = side // 2, []
    for number, index in enumerate(first):
        others = [other for other in range(len(crops)) if first[other] != index]
        chosen = np.random.default_rng(number).choice(others, 3, replace=False).tolist()
        place = number % 4
        chosen.insert(place, number)
        mosaic = np.empty_like(crops[0])
        areas = [(slice(y, y + half), slice(x, x + half)) for y in (0, half) for x in (0, half)]
        for (rows, columns), one in zip(areas, chosen, strict=True):
            small = Image.fromarray(crops[one].transpose(1, 2, 0)).resize((half, half))
            mosaic[:, rows, columns] = np.asarray(small).transpose(2, 0, 1)
        logits, _, maps = (values[0] for values in engine.mapped(mosaic[None]))
        cells = heatmap.heat_map(logits, maps, engine.head, index).cells
        speaks = stretched(cells, side).clip(0)
        shares.append(float(speaks[areas[place]].sum() / max(speaks.sum(), 1e-9)))
    print(f"  in its quarter of four images, n = {len(shares)}: {interval(shares)}", flush=True)


def ranks(values: Cells) -> Cells:
    """Return the rank of each value."""
    return np.argsort(np.argsort(values.ravel())).astype(np.float64)


def randomised(
    architecture: str, classifier: Classifier, weights: zoo.State, crops: Sequence[Crops]
) -> None:
    """Print how alike maps are to those of the same network with random weights."""
    others = {"head": zoo.build(architecture), "all": zoo.build(architecture)}
    layer = head.find(others["head"]).main
    state = {name: value for name, value in weights.items() if not name.startswith(f"{layer}.")}
    others["head"].load_state_dict(state, strict=False)
    source = heatmaps.source(architecture)
    for name, network in others.items():
        random = Eager(network, classifier.preprocess, layer, source)
        alike = []
        for crop in crops:
            rankings, index = maps_of(classifier, crop, develop=False)
            found = random.mapped(crop[None])
            other = heatmap.heat_map(found.logits[0], found.maps[0], random.head, index).cells
            alike.append(np.corrcoef(ranks(rankings["map"]), ranks(other))[0, 1])
        print(f"  random {name}: rank correlation {interval(alike)}")


def report(title: str, found: Mapping[str, list[float]]) -> None:
    """Print each map's deletion, and how far the others are from the one that is served."""
    print(f"{title}: n = {len(found['map'])}, map {np.mean(found['map']):.4f}")
    for name, values in found.items():
        if name != "map":
            paired = [one - two for one, two in zip(found["map"], values, strict=True)]
            print(f"  map - {name} ({np.mean(values):.4f}): {interval(paired)}", flush=True)


def pictures(classifier: Classifier, archive: Path, prefix: str, most: int) -> Iterator[Crops]:
    """Yield the crops of an archive's images, evenly drawn from all of them."""
    names = sorted(unknown.members(archive, prefix))
    chosen = [names[number * len(names) // most] for number in range(min(most, len(names)))]
    for batch in unknown.batches(classifier, archive, chosen):
        yield from batch


def main() -> None:
    """Print one report for each architecture and archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument(
        "--architectures", nargs="+", default=["mobilenet_v2", "squeezenet1_0", "squeezenet1_1"]
    )
    asked = parser.parse_args()
    folder = Path(os.environ.get("TOPWORK_WEIGHTS_DIR", "nowhere"))
    archive = plain.SHARED.parent / "imagenet200.zip"
    if not (plain.SHARED.is_file() and archive.is_file() and folder.is_dir()):
        sys.exit("hymenoptera.zip, imagenet200.zip and TOPWORK_WEIGHTS_DIR are needed")
    print(plain.machine())
    for architecture in asked.architectures:
        weights = tensorfile.read(folder / f"{architecture}.safetensors").tensors
        classifier = Classifier.imagenet(architecture, weights)
        crops = list(pictures(classifier, archive, "", asked.images))
        print(f"{architecture}, imagenet200:")
        mosaics(classifier, crops)
        found = measured(classifier, iter(crops), develop=asked.develop)
        report(f"{architecture}, imagenet200", found)
        if asked.develop:
            continue
        randomised(architecture, classifier, weights, crops)
        with tempfile.TemporaryDirectory() as name:
            result = unknown.trained(Path(name), architecture, "head")
            classifier = Classifier.from_artefact(result)
            crops = list(pictures(classifier, plain.SHARED, "val/", asked.images))
            found = measured(classifier, iter(crops), develop=False)
            report(f"{architecture}, hymenoptera", found)


if __name__ == "__main__":
    main()
