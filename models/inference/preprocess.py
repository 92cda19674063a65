"""From the bytes of an image to the network's input: one object for training, serving and export.

It reproduces torchvision's `ImageClassification` preset (short side, centre crop, scale to 0..1,
mean and standard deviation) on Pillow images, but for single levels of 255 (see `resample`).
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.imaging.decode import DEFAULT_LIMITS, ImageData, ImageLimits, OpenImage
from core.imaging.to_rgb import Rendering
from models.inference.resample import CROP, FILTERS, FITS, seen, square, square_in_any_order
from models.planning import catalogue
from topwork.errors import IntegrityError

if TYPE_CHECKING:  # A predictor may have no need of torch, which takes most of its memory.
    from torch import Tensor

# How pixels are resized and cropped, by the number that cards carry. A change that moves a sample
# gets a new number, and the old way stays for the models that were evaluated with it.
# `STATED` is the first for which counts what a file states of its samples (`Rendering.stated`).
ANY_ORDER, ROWS_FIRST, STATED = REVISIONS = (1, 2, 3)
REVISION = STATED
WHITES = range(1, 1 << 16)
LARGEST_SIDE = 4096  # Far beyond what training allows; a card must not ask for all the memory.


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes a network's input; stored in every card.

    `resize` is the short side and `crop` the side of the centred square after it, in pixels;
    `mean` and `std` are per channel (R, G, B) of samples in 0..1. `revision` is one of `REVISIONS`.
    `white` is the sample that is white in pictures of more than 8 bits; None for what these state.
    `fit` is one of `FITS`: `crop` takes the square, `pad` the whole image in a square of the colour
    `mean`, `squash` the whole out of shape; earlier cards name none and take the square.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    antialias: bool = True
    revision: int = REVISION
    white: int | None = None
    fit: str = CROP

    def __post_init__(self) -> None:
        """Refuse values that a card from elsewhere could carry and that would fail later.

        Raises:
            IntegrityError: A value lies outside what can be computed.
        """
        numbers = (*self.mean, *self.std)
        if not (
            isinstance(self.crop, int)
            and isinstance(self.resize, int)
            and 0 < self.crop <= self.resize <= LARGEST_SIDE
            and self.interpolation in FILTERS
            and self.antialias is True
            and self.revision in REVISIONS
            and (self.white is None or self.white in WHITES)
            and self.fit in (FITS if self.revision >= ROWS_FIRST else (CROP,))
            and len(self.mean) == len(self.std) == 3  # noqa: PLR2004  # Red, green, blue.
            and all(math.isfinite(number) for number in numbers)
            and min(self.std) > 0
        ):
            raise IntegrityError(f"This preprocessing cannot be computed: {self}.")

    @classmethod
    def for_architecture(cls, name: str) -> "Preprocess":
        """Return the preset of the architecture's published weights, or of its paper's input."""
        facts = catalogue.get(name)
        return cls(facts.resize, facts.input_size, facts.mean, facts.std, facts.interpolation)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """Read the JSON form, which is of revision 1 where it names none.

        Raises:
            IntegrityError: It is no such form.
        """
        try:
            mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
            return cls(**{"revision": 1, **values, "mean": mean, "std": std})
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"This is no preprocessing: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def at(self, crop: int, *, fit: str = CROP, white: int | None = None) -> "Preprocess":
        """Return what a new model takes: another input side, the margin around it in proportion.

        It is of the latest revision, as nothing was evaluated with it yet.
        """
        resize = max(crop, round(crop * self.resize / self.crop))
        return replace(self, crop=crop, resize=resize, revision=REVISION, white=white, fit=fit)

    @property
    def rendering(self) -> Rendering:
        """How a file's samples become colours."""
        return Rendering(stated=self.revision >= STATED, white=self.white)

    @property
    def margin(self) -> tuple[int, int, int]:
        """The colour around an image that is padded: what the network takes for nothing, 0."""
        red, green, blue = (min(255, max(0, round(255 * value))) for value in self.mean)
        return red, green, blue

    def read(self, data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
        """Decode an image file and return its crop; uint8 (3, crop, crop).

        Raises:
            ImageUndecodable: The file is no complete image.
            ImageTooLarge: The image is beyond `limits`.
        """
        return self.crop_of(OpenImage(data, limits))

    def crop_of(self, image: OpenImage) -> NDArray[np.uint8]:
        """Return the same of an image whose header was read; errors as of `read`."""
        return self.uint8(self.rgb(image))

    def rgb(self, image: OpenImage) -> Image.Image:
        """Decode an image as far as its crop needs it; errors as of `read`."""
        return image.rgb(shrink_to=self.resize, rendering=self.rendering)

    def uint8(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an RGB image of any size; uint8 (3, crop, crop)."""
        geometry = self.resize, self.crop, self.interpolation
        if self.revision == ANY_ORDER:
            pixels = square_in_any_order(image, *geometry)
        else:
            pixels = square(image, *geometry, self.fit, self.margin)
        return np.asarray(pixels).transpose(2, 0, 1).copy()

    def seen(self, image: Image.Image) -> tuple[float, float, float, float]:
        """Return the part of an image that its crop shows, as `resample.seen` does."""
        return seen(image.size, self.resize, self.crop, self.fit)

    def normalise(self, batch: "Tensor") -> "Tensor":
        """Turn uint8 (N, 3, H, W) into the network's float32 input, on the batch's device."""
        shares = batch.float().div_(255)
        mean, std = shares.new_tensor([self.mean, self.std]).view(2, 3, 1, 1)
        return shares.sub_(mean).div_(std)
