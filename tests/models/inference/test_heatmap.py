"""A heat map adds up to the answer that it explains, by every network that has one."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.imaging.decode import OpenImage
from models.inference import heatmap_picture
from models.inference.eager import Eager
from models.inference.heatmap import against, heat_map
from models.inference.outputs import LinearHead
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.planning import catalogue, heatmaps
from tests.models.networks.families import FAMILIES, side_of
from topwork.errors import IntegrityError

CLASSES = 4
IMAGENET = Preprocess(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def row(values: list[Any]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("architecture", [name for name in FAMILIES if heatmaps.source(name)])
def test_cells_and_bias_add_up_to_the_margin(architecture: str) -> None:
    side = side_of(catalogue.get(architecture))
    network = zoo.build(architecture, CLASSES, auxiliary=False)
    preprocess, head = IMAGENET.at(side), catalogue.get(architecture).head
    engine = Eager(network, preprocess, head, heatmaps.source(architecture))
    crops = np.random.default_rng(0).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    logits, _, maps = engine.mapped(crops)
    assert logits == pytest.approx(engine(crops), abs=1e-4)
    for image, index in ((0, 0), (1, 3)):
        found = heat_map(logits[image], maps[image], engine.head, index)
        others = np.delete(logits[image].astype(float), index)
        shares = np.exp(others - others.max())
        margin = logits[image][index] - others @ shares / shares.sum()
        assert found.margin == pytest.approx(margin, abs=1e-4)
        assert found.cells.mean() + found.bias == pytest.approx(margin, rel=1e-3, abs=1e-3)
        assert found.cells.shape == maps.shape[2:]


def test_of_two_classes_one_is_held_against_the_other() -> None:
    assert against(row([3, 5]), 1).tolist() == [-1, 1]
    assert against(row([7]), 0).tolist() == [1]
    three = against(row([9, 100, 100]), 0)
    assert three.tolist() == pytest.approx([1, -0.5, -0.5])


def test_maps_of_another_answer_explain_nothing() -> None:
    head = LinearHead(row([[1, 0], [0, 1]]), row([0, 0]))
    maps = row([[[4, 0]], [[0, 2]]])
    right = heat_map(row([2, 1]), maps, head, 0)
    assert right.cells.tolist() == [[4, -2]]
    assert (right.margin, right.bias) == (1, 0)
    for wrong in (row([2, 2]), row([np.nan, 1])):
        with pytest.raises(IntegrityError, match="do not add up"):
            heat_map(wrong, maps, head, 0)


@pytest.mark.parametrize("size", [(500, 375), (301, 900), (224, 224), (80, 60)])
def test_the_box_is_what_the_crop_shows(size: tuple[int, int]) -> None:
    seen = IMAGENET.seen(Image.new("RGB", size))
    edges = [round(share * side) for share, side in zip(seen, size * 2, strict=True)]
    inwards = (1, 1, -1, -1)
    around = [edge - 2 * way for edge, way in zip(edges, inwards, strict=True)]
    assert dark(size, around)
    for number, way in enumerate(inwards):  # One edge lies within what is shown.
        within = around.copy()
        within[number] += way * (4 + max(size) // 50)
        assert not dark(size, within)


def dark(size: tuple[int, int], box: list[int]) -> bool:
    """Return whether a white image's crop lies all within a box that is painted black."""
    picture = Image.new("RGB", size, "white")
    picture.paste("black", tuple(box))  # type: ignore[arg-type]  # Four of them.
    return bool(IMAGENET.uint8(picture).max() < 128)


def test_the_size_is_of_the_upright_picture() -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # Lies on its side.
    Image.new("RGB", (640, 480)).save(file, "JPEG", exif=exif)
    image = OpenImage(file.getvalue())
    assert image.size == (480, 640)
    small = image.rgb(shrink_to=100)
    assert small.height > small.width


def test_colours_lie_where_the_cells_do() -> None:
    cells = np.array([[9.0, 0.0], [0.0, -4.5]])
    drawn = Image.open(io.BytesIO(heatmap_picture.transparent(cells)))
    assert (drawn.mode, drawn.size) == ("RGBA", (16, 16))
    red, blue = drawn.getpixel((0, 0)), drawn.getpixel((15, 15))
    assert red == (*heatmap_picture.FOR, 191)
    assert blue == (*heatmap_picture.AGAINST, 95)
    assert drawn.getpixel((15, 0))[3] == 0  # type: ignore[index]  # It has four channels.


def test_nothing_is_drawn_beside_the_box() -> None:
    image = Image.new("RGB", (1024, 512), "white")
    data = heatmap_picture.overlay(image, (0.25, 0.0, 0.75, 1.0), np.ones((2, 2)))
    drawn = Image.open(io.BytesIO(data))
    assert drawn.size == (512, 256)
    assert {drawn.getpixel((x, 100)) for x in (0, 127, 384, 511)} == {(255, 255, 255)}
    assert {drawn.getpixel((x, 100)) for x in (128, 255, 383)} == {(224, 94, 94)}
