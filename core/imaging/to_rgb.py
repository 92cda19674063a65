"""Turn the samples of any decoded image into 8-bit RGB without losing or inventing brightness.

Pillow's plain `convert("RGB")` clips 16-bit samples to white, turns float images black, ignores
WhiteIsZero on 16-bit TIFF and drops transparency; each of these trains a network on wrong pixels
without a word.
"""

from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

from core.imaging.colour_profiles import foreign, managed, to_srgb
from core.imaging.statistics import BLANK, brightest, spread
from topwork.errors import ImageUndecodable

BYTE_BITS = 8
BYTE_MAX = 255
WIDE_BITS = 16

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_MAX_SAMPLE_VALUE = 281
_SAMPLE_FORMAT = 339
_S_MAX_SAMPLE_VALUE = 341
_SIGNED = 2
_WHITE_IS_ZERO = 0


@dataclass(frozen=True, slots=True)
class Rendering:
    """How samples become colours; what a model was trained with, it is asked with.

    Args:
        stated: What a file states of its samples counts: the profile of RGB colours, the number of
            significant bits, the page that a TIFF's preview is of. Models of earlier revisions were
            trained without, and what vanishes over white was left so.
        white: The sample that is white in pictures of more than 8 bits, whatever these state;
            None for what they state.
    """

    stated: bool = True
    white: int | None = None


STATED = Rendering()


@dataclass(frozen=True)
class SampleLayout:
    """What the header states about one sample: bits, sign, whether zero means white.

    `significant` is how many of the bits are used; 0 where nothing is said.
    """

    depth: int = BYTE_BITS
    signed: bool = False
    inverted: bool = False
    significant: int = 0

    def white(self, largest: int, rendering: Rendering) -> int:
        """Return the sample that is white in a picture whose largest sample is this.

        A file whose samples exceed what it states is read by its depth: PNG has writers scale
        samples to all bits (`sBIT`, PNG 3rd edition, 11.3.2.6), which many leave out.
        """
        whole = (1 << self.depth) - 1
        if rendering.white is not None and self.depth > BYTE_BITS:
            return rendering.white
        used = (1 << self.significant) - 1 if rendering.stated and self.significant else whole
        return used if largest <= used else whole


class Rendered(NamedTuple):
    """A picture as 8-bit RGB, and what was seen of its samples.

    Attributes:
        image: The picture.
        largest: Sample as stored, where samples have more than 8 bits and are whole numbers; of
            colours, of which the upper 8 bits are read, the most that it can be.
        white: What `largest` is out of.
        over_black: Transparent parts show black, as nothing would be seen over white.
    """

    image: Image.Image
    largest: int | None = None
    white: int = BYTE_MAX
    over_black: bool = False


def layout(image: Image.Image, depth: int = BYTE_BITS, significant: int = 0) -> SampleLayout:
    """Read the stated sample layout; call it before `load`, which drops TIFF tags.

    Args:
        image: Opened, not loaded.
        depth: Bits of a sample of a PNG, which Pillow does not tell.
        significant: How many of these mean something, likewise.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        wide = WIDE_BITS if image.mode.startswith("I;16") else BYTE_BITS
        return SampleLayout(max(wide, depth), significant=significant)
    tags = image.tag_v2
    depth = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    return SampleLayout(
        depth=depth,
        signed=_SIGNED in tags.get(_SAMPLE_FORMAT, ()),
        inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
        significant=_bits_of(tags, depth),
    )


def _bits_of(tags: TiffImagePlugin.ImageFileDirectory_v2, depth: int) -> int:
    """Return how many bits the largest sample takes that a TIFF states; 0 where it states none.

    Whole bits, as the number itself may be of this picture alone (TIFF 6.0, MaxSampleValue), and
    pictures of one set must not differ in brightness by it.
    """
    for tag in (_S_MAX_SAMPLE_VALUE, _MAX_SAMPLE_VALUE):
        value = tags.get(tag)
        numbers = value if isinstance(value, tuple) else (value,)
        if all(isinstance(it, int | float) and 0 < it < 2**depth for it in numbers):
            return max(int(it).bit_length() for it in numbers)
    return 0


def to_rgb(image: Image.Image, samples: SampleLayout, rendering: Rendering = STATED) -> Rendered:
    """Convert a loaded image of any mode to RGB.

    Raises:
        ImageUndecodable: The samples have no agreed black and white.
    """
    if samples.signed or (image.mode == "I" and samples.depth > WIDE_BITS):
        raise ImageUndecodable(
            f"The image has {'signed' if samples.signed else '32-bit integer'} samples,"
            " which have no agreed white.",
            hint="Save it with 8 or 16 unsigned bits per sample.",
        )
    if image.mode.startswith("I") or image.mode == "F":
        return _from_grey(image, samples, rendering)
    if image.mode in {"CMYK", "LAB"}:
        return Rendered(managed(image))
    profile = foreign(image) if rendering.stated else None
    clear = image.has_transparency_data
    colours = _rgba(image) if clear else image.convert("RGB")
    largest, white = None, BYTE_MAX
    if samples.depth > BYTE_BITS:
        largest, white, colours = _brightened(colours, samples, rendering)
    if profile is not None:
        colours = to_srgb(colours, profile)
    if not clear:
        return Rendered(colours, largest, white)
    shown, over_black = _composed(colours, rendering)
    return Rendered(shown, largest, white, over_black)


def _from_grey(image: Image.Image, samples: SampleLayout, rendering: Rendering) -> Rendered:
    """Rescale wide grey samples to 0..255, rounding to nearest."""
    import numpy as np  # noqa: PLC0415  # Only these rare files need it; it costs 0.2 s to import.

    values = np.asarray(image, dtype=np.float64)
    largest, white = None, 1
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageUndecodable(
                "The image has float samples outside 0..1, which have no agreed white.",
                hint="Rescale the samples to 0..1, or save 8 or 16 unsigned bits per sample.",
            )
    else:
        largest = int(values.max())
        white = samples.white(largest, rendering)
    grey = np.rint(values / white * BYTE_MAX).clip(0, BYTE_MAX)
    if samples.inverted:
        grey = BYTE_MAX - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = BYTE_MAX
    return Rendered(Image.fromarray(grey.astype(np.uint8)).convert("RGB"), largest, white)


def _brightened(
    image: Image.Image, samples: SampleLayout, rendering: Rendering
) -> tuple[int, int, Image.Image]:
    """Return the largest sample, what is white, and the picture by it; `image` has upper bytes."""
    lower = samples.depth - BYTE_BITS
    top = (brightest(image) << lower) | ((1 << lower) - 1)
    white = samples.white(top, rendering)
    if white >= (1 << samples.depth) - 1:
        return top, white, image
    scaled = [min(BYTE_MAX, round((it << lower) / white * BYTE_MAX)) for it in range(256)]
    kept = [list(range(256))] if image.mode == "RGBA" else []
    return top, white, image.point([it for lut in [scaled] * 3 + kept for it in lut])


def _rgba(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > BYTE_MAX:
        # The colour key of a 16-bit PNG keeps 16 bits while Pillow keeps the upper byte of samples.
        image.info["transparency"] = tuple(value >> BYTE_BITS for value in key)
    return image.convert("RGBA")


def _composed(rgba: Image.Image, rendering: Rendering) -> tuple[Image.Image, bool]:
    """Show a transparent picture over white, and over black where white would hide all of it."""
    over_white = _over(rgba, "white")
    if not rendering.stated or spread(over_white) > BLANK:
        return over_white, False
    over_black = _over(rgba, "black")
    return (over_black, True) if spread(over_black) > BLANK else (over_white, False)


def _over(rgba: Image.Image, colour: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, colour), rgba).convert("RGB")
