"""Which embedded profiles are used."""

from PIL import Image

from core.imaging.colour_profiles import LARGEST, foreign
from tests.colour_profiles import ADOBE, profile


def test_a_profile_that_would_fill_the_memory_is_passed_over() -> None:
    image = Image.new("RGB", (2, 2))
    whole = profile(ADOBE, "Adobe RGB (1998)")
    for length, used in ((len(whole), True), (LARGEST, True), (LARGEST + 1, False)):
        image.info["icc_profile"] = whole.ljust(length, b"\0")
        assert (foreign(image) is not None) is used
