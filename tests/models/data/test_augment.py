import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.augment import Augmentation, augment, named

SAMPLES = np.arange(64)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)


def views(
    images: Tensor, how: Augmentation, *, epoch: int = 1, aspect: float = 1.0, side: int = 16
) -> Tensor:
    aspects = torch.full((len(images),), aspect)
    samples = SAMPLES[: len(images)]
    return augment(images, aspects, samples, how=how, side=side, seed=3, epoch=epoch)


def test_nothing_asked_is_nothing_changed(images: Tensor) -> None:
    assert torch.allclose(views(images, Augmentation()), images.float(), atol=1e-3)


def test_mirroring_turns_about_half_of_the_images(images: Tensor) -> None:
    seen = views(images, Augmentation(mirror=True))
    kept = [torch.allclose(a, b.float(), atol=1e-3) for a, b in zip(seen, images, strict=True)]
    turned = [
        torch.allclose(a, b.float().flip(-1), atol=1e-3) for a, b in zip(seen, images, strict=True)
    ]
    assert [a != b for a, b in zip(kept, turned, strict=True)] == [True] * 64
    assert 16 < sum(turned) < 48


def test_a_shift_moves_whole_pixels(images: Tensor) -> None:
    seen = views(images, Augmentation(shift=0.25))
    assert torch.allclose(seen, seen.round(), atol=1e-3)
    assert not torch.allclose(seen, images.float())


def test_a_view_depends_on_sample_and_epoch_only(images: Tensor) -> None:
    how = named("strong", 224)
    assert how is not None
    all_of_them = views(images, how)
    some = augment(images[5:9], torch.ones(4), SAMPLES[5:9], how=how, side=16, seed=3, epoch=1)
    assert torch.equal(all_of_them[5:9], some)
    assert not torch.allclose(all_of_them, views(images, how, epoch=2))


def test_crops_have_the_area_and_shape_that_were_asked_for() -> None:
    ramp = torch.linspace(0, 255, 64).to(torch.uint8)
    across = ramp.expand(64, 3, 64, 64).contiguous()
    down = across.transpose(2, 3).contiguous()
    how = Augmentation(area=(0.25, 0.25), aspect=(1.0, 1.0))
    # An image twice as wide as high: a square crop of a quarter of its area.
    wide = views(across, how, aspect=2.0)
    high = views(down, how, aspect=2.0)
    width = (wide[..., -1] - wide[..., 0]).mean() / 255
    height = (high[..., -1, :] - high[..., 0, :]).mean() / 255
    assert float(width) == pytest.approx(0.125**0.5 * 15 / 16, abs=0.02)
    assert float(height) == pytest.approx(0.5**0.5 * 15 / 16, abs=0.02)
    assert float(wide.min()) >= 0


@pytest.mark.parametrize("name", ["light", "standard", "strong"])
@pytest.mark.parametrize("side", [32, 224])
def test_values_stay_in_range(images: Tensor, name: str, side: int) -> None:
    how = named(name, side)
    assert how is not None
    seen = views(images, how, side=24)
    assert seen.shape == (64, 3, 24, 24)
    assert seen.min() >= 0
    assert seen.max() <= 255


def test_light_never_mirrors() -> None:
    how = named("light", 32)
    assert how is not None
    assert not how.mirror
    assert named("none", 32) is None
