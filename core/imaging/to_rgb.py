"""Turn the samples of any decoded image into 8-bit RGB without losing or inventing brightness.

Pillow's plain `convert("RGB")` clips 16-bit samples to white, turns float images black, ignores
WhiteIsZero on 16-bit TIFF and drops transparency; each of these trains a network on wrong pixels
without a word.
"""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageCms, TiffImagePlugin

from topwork.errors import ImageUndecodable

BYTE_BITS = 8
BYTE_MAX = 255
WIDE_BITS = 16

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_SIGNED = 2
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class SampleLayout:
    """What the header declares about one sample: bits, sign, and whether zero means white."""

    depth: int = BYTE_BITS
    signed: bool = False
    inverted: bool = False


def layout(image: Image.Image) -> SampleLayout:
    """Read the declared sample layout; call it before `load`, which drops TIFF tags."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return SampleLayout(WIDE_BITS if image.mode.startswith("I;16") else BYTE_BITS)
    tags = image.tag_v2
    return SampleLayout(
        depth=max(tags.get(_BITS_PER_SAMPLE, (1,))),
        signed=_SIGNED in tags.get(_SAMPLE_FORMAT, ()),
        inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
    )


def to_rgb(image: Image.Image, samples: SampleLayout) -> Image.Image:
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
        return _to_grey(image, samples).convert("RGB")
    if image.mode in {"CMYK", "LAB"}:
        return _managed(image)
    if image.has_transparency_data:
        return _over_white(image)
    return image.convert("RGB")


def _to_grey(image: Image.Image, samples: SampleLayout) -> Image.Image:
    """Rescale wide grey samples to 0..255 by their declared depth, rounding to nearest."""
    import numpy as np  # noqa: PLC0415  # Only these rare files need it; it costs 0.2 s to import.

    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageUndecodable(
                "The image has float samples outside 0..1, which have no agreed white.",
                hint="Rescale the samples to 0..1, or save 8 or 16 unsigned bits per sample.",
            )
        top = 1.0
    else:
        top = float(2**samples.depth - 1)
    grey = np.rint(values / top * BYTE_MAX).clip(0, BYTE_MAX)
    if samples.inverted:
        grey = BYTE_MAX - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = BYTE_MAX
    return Image.fromarray(grey.astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > BYTE_MAX:
        # The colour key of a 16-bit PNG keeps 16 bits while Pillow keeps the upper byte of samples.
        image.info["transparency"] = tuple(value >> BYTE_BITS for value in key)
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _managed(image: Image.Image) -> Image.Image:
    """Convert CMYK by its embedded profile where there is a usable one, Lab always, to sRGB."""
    embedded = image.info.get("icc_profile")
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif embedded:
            source = ImageCms.ImageCmsProfile(BytesIO(embedded))
        else:
            return image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return converted or image.convert("RGB")
