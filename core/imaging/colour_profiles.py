"""Embedded ICC profiles: samples of other colour spaces become sRGB by littlecms."""

from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

# Where pictures of one camera or program follow each other, their profile is read once.
KEPT = 8
LARGEST = 4 * 1024 * 1024  # Bytes; beyond those of any camera, and what is kept has to stay small.
SRGB = "sRGB"  # A word in the description of profiles that mean what is assumed without any.
_COLOURED = {"RGB", "RGBA", "RGBX", "P", "PA"}


def managed(image: Image.Image) -> Image.Image:
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
        changed = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return changed or image.convert("RGB")


def foreign(image: Image.Image) -> bytes | None:
    """Return the profile of an image with colours of another space than sRGB; else None.

    What is no usable profile of RGB samples is passed over, as viewers do.
    """
    profile = image.info.get("icc_profile")
    if image.mode not in _COLOURED or not isinstance(profile, bytes) or len(profile) > LARGEST:
        return None
    return None if _transform(profile) is None else profile


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an RGB or RGBA picture by a profile that `foreign` returned; transparency stays."""
    transform = _transform(profile)
    if transform is None:
        return image
    changed = transform.apply(image.convert("RGB"))
    if image.mode == "RGBA":
        changed.putalpha(image.getchannel("A"))
    return changed


@lru_cache(KEPT)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return what converts to sRGB; None where there is nothing to convert."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != "RGB":
            return None
        if SRGB in (source.profile.profile_description or "").split():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
