"""What is told about an image that is used, by code; `SERIOUS` ones may spoil a training."""

FINDINGS = {
    "exif_rotated": "The image is turned upright as its orientation says.",
    "exif_corrupt": "The EXIF data cannot be read and is ignored.",
    "alpha_flattened": "Transparent parts are shown over white.",
    "cmyk_converted": "The CMYK colours are converted to sRGB.",
    "profile_converted": "The colours are converted from the space of their profile to sRGB.",
    "sixteen_bit": "The samples are rescaled from their declared depth to 8 bits.",
    "several_frames": "Only the first frame or page, or the primary picture, is used.",
    "preview_skipped": "The first page is a small preview; the page that it is of is used.",
    "preview_only": "Only a preview can be read of this file; the picture itself cannot.",
    "shown_over_black": "Nothing would be seen over white, so transparent parts are shown black.",
    "blank_image": "The picture is of one colour: there is nothing to see.",
    "dark_range": "The samples use a quarter of their range or less.",
}
SERIOUS = frozenset({"preview_only", "shown_over_black", "blank_image", "dark_range"})
