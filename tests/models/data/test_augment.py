import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from models.data import views as viewing
from models.data.augment import Augmentation, augment, named, planned
from models.data.randomness import AUGMENT, uniforms
from models.inference.preprocess import Preprocess
from models.inference.resample import FILTERS
from models.planning import catalogue
from models.planning.plan import resolve
from topwork.types.training import TrainConfig

SAMPLES = np.arange(64)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)


def views(
    images: Tensor,
    augmentation: Augmentation,
    *,
    epoch: int = 1,
    side: int = 16,
    first: int = 0,
    interpolation: str = "bilinear",
    fit: str = "crop",
) -> Tensor:
    return augment(
        images if augmentation.whole_pixels else list(images),
        SAMPLES[first : first + len(images)],
        augmentation=augmentation,
        preprocess=Preprocess(side, side, (0.5,) * 3, (0.5,) * 3, interpolation, fit=fit),
        seed=3,
        epoch=epoch,
    )


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


def test_moved_pixels_are_the_same_on_every_machine() -> None:
    """Seeds keep their meaning; what is interpolated differs in its last bits between CPUs."""
    images = (torch.arange(8 * 3 * 16 * 16) * 7 % 251).to(torch.uint8).view(8, 3, 16, 16)
    seen = views(images, Augmentation(shift=0.25, mirror=True)).to(torch.uint8)
    assert hashlib.sha256(seen.numpy().tobytes()).hexdigest()[:16] == "e83ba1db1a0d7368"


def test_a_view_depends_on_sample_and_epoch_only(images: Tensor) -> None:
    augmentation = named("strong", 224)
    all_of_them = views(images, augmentation)
    some = views(images[5:9], augmentation, first=5)
    assert torch.equal(all_of_them[5:9], some)
    assert not torch.allclose(all_of_them, views(images, augmentation, epoch=2))


def ramp(width: int, height: int) -> Tensor:
    """Red grows from left to right by one a pixel, green from top to bottom."""
    across = torch.arange(width).expand(height, width)
    down = torch.arange(height)[:, None].expand(height, width)
    return torch.stack([across, down, torch.zeros_like(down)]).to(torch.uint8)


def seen_parts(size: tuple[int, int], augmentation: Augmentation) -> Tensor:
    """Return left, top, width and height (64, 4) of what views of an image of a size show."""
    seen = views(ramp(*size).expand(64, -1, -1, -1), augmentation, side=8)
    columns, rows = seen[:, 0].mean(1), seen[:, 1].mean(2)
    wide, high = ((line[:, -2] - line[:, 1]) * 8 / 5 for line in (columns, rows))
    left, top = (line.mean(1) - length / 2 for line, length in ((columns, wide), (rows, high)))
    return torch.stack([left, top, wide, high], 1)


def test_crops_have_the_area_and_shape_that_were_asked_for() -> None:
    """An image twice as wide as high: crops are a fifth of it, and lie anywhere."""
    augmentation = Augmentation(area=(0.2, 0.2))
    left, top, wide, high = seen_parts((160, 80), augmentation).unbind(1)
    torch.testing.assert_close(wide * high, torch.full((64,), 2560.0), rtol=0.05, atol=0)
    shapes = wide / high
    assert 0.72 < float(shapes.min()) < 0.85
    assert 1.18 < float(shapes.max()) < 1.39
    for place, length, whole in ((left, wide, 160), (top, high, 80)):
        shares = place / (whole - length)
        assert float(shares.min()) < 0.1
        assert float(shares.max()) > 0.9


@pytest.mark.parametrize("size", [(240, 40), (40, 240), (120, 80)])
def test_no_crop_is_stretched_beyond_four_thirds(size: tuple[int, int]) -> None:
    _, _, wide, high = seen_parts(size, named("standard", 224)).unbind(1)
    shapes = wide.abs() / high  # Some are seen in a mirror.
    assert float(shapes.min()) > 0.7
    assert float(shapes.max()) < 1.42


def test_no_crop_is_enlarged_far_beyond_what_evaluation_enlarges() -> None:
    """An image of the very side of the input: an eighth of its side would be a blur."""
    augmentation = Augmentation(area=(0.01, 1.0))
    noise = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8)
    drawn = uniforms(AUGMENT, 3, 1, SAMPLES, 12)
    preprocess = Preprocess(64, 64, (0.5,) * 3, (0.5,) * 3)
    found = viewing.boxes(
        drawn, list(noise), area=(0.01, 1.0), aspect=augmentation.aspect, preprocess=preprocess
    )
    least = min(box.width * box.height for box in found)
    assert least > 0.4 * 64**2  # Seen at 1.5 times its size, a side would have two thirds of it.
    small = viewing.boxes(
        drawn,
        list(noise[:, :, :16, :16]),
        area=(0.01, 1.0),
        aspect=augmentation.aspect,
        preprocess=preprocess,
    )
    assert min(box.width * box.height for box in small) < 0.6 * 16**2


@pytest.mark.parametrize("augmentation", [named("standard", 224), named("light", 224)])
@pytest.mark.parametrize("size", [(200, 60), (60, 200)])
def test_of_a_padded_image_no_part_is_lost(
    size: tuple[int, int], augmentation: Augmentation
) -> None:
    """Its short side is seen whole, in its shape, and the margin is grey."""
    white = torch.full((64, 3, size[1], size[0]), 255, dtype=torch.uint8)
    seen = views(white, augmentation, side=40, fit="pad")[:, 0]
    margin = seen[:, 0].mean(1) if size[0] > size[1] else seen[:, :, 0].mean(1)
    assert float((margin < 254).float().mean()) > 0.8
    lit = (seen - 128).clamp(min=0) / 127
    thick = lit.sum(1) if size[0] > size[1] else lit.sum(2)
    shown = thick.amax(1) / 40
    assert float(shown.min()) > 0.3 / (1.1 * 1.16)
    assert float(shown.max()) < 0.3 / 0.35**0.5 * 1.3
    assert float(seen.min()) == pytest.approx(128, abs=1)


@pytest.mark.parametrize("augmentation", [named("standard", 224), named("light", 224)])
def test_a_squashed_image_is_seen_out_of_shape(augmentation: Augmentation) -> None:
    parts = views(ramp(240, 40).expand(64, -1, -1, -1), augmentation, side=8, fit="squash")
    across = (parts[:, 0, 4, -2] - parts[:, 0, 4, 1]).abs()
    down = (parts[:, 1, -2, 4] - parts[:, 1, 1, 4]).abs()
    shapes = across / down / 6
    assert 0.7 < float(shapes.min()) < 1 < float(shapes.max()) < 1.42


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_reduced_crop_is_what_pillow_makes_of_it(interpolation: str) -> None:
    noise = torch.randint(0, 256, (1, 3, 60, 90), dtype=torch.uint8)
    augmentation = Augmentation(area=(0.5, 0.5), aspect=(1.0, 1.0))
    seen = views(noise, augmentation, interpolation=interpolation)
    preprocess = Preprocess(16, 16, (0.5,) * 3, (0.5,) * 3, interpolation)
    (box,) = viewing.boxes(
        uniforms(AUGMENT, 3, 1, SAMPLES[:1], 12),
        list(noise),
        area=(0.5, 0.5),
        aspect=(1.0, 1.0),
        preprocess=preprocess,
    )
    whole = Image.fromarray(noise[0].permute(1, 2, 0).numpy())
    part = whole.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    pillow = part.resize((16, 16), FILTERS[interpolation])
    off = (seen[0] - torch.from_numpy(np.array(pillow)).permute(2, 0, 1)).abs()
    assert float(off.max()) <= 1


@pytest.mark.parametrize("name", ["light", "standard", "strong"])
@pytest.mark.parametrize("side", [32, 224])
def test_values_stay_in_range(images: Tensor, name: str, side: int) -> None:
    augmentation = named(name, side)
    wanted = 16 if augmentation.whole_pixels else 24
    seen = views(images, augmentation, side=wanted)
    assert seen.shape == (64, 3, wanted, wanted)
    assert seen.min() >= 0
    assert seen.max() <= 255


def test_light_never_mirrors() -> None:
    assert not named("light", 32).mirror
    assert named("standard", 32).mirror


def test_moving_is_the_interpolation_of_torch() -> None:
    theta = torch.tensor([[[0.9, -0.1, 0.2], [0.1, 1.1, -0.3]]]).expand(64, -1, -1)
    places = functional.affine_grid(theta, [64, 3, 16, 16], align_corners=False)
    assert torch.allclose(viewing.grid(theta, 16), places, atol=1e-5)


def test_without_a_crop_the_middle_of_an_oblong_image_is_seen() -> None:
    left, top, wide, high = seen_parts((160, 80), Augmentation(degrees=1e-6)).mean(0).tolist()
    assert (left, top) == pytest.approx((40, 0), abs=2)
    assert (wide, high) == pytest.approx((80, 80), abs=2)


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
def test_a_policy_changes_each_image_by_its_own_number(images: Tensor, policy: str) -> None:
    augmentation = Augmentation(policy=policy)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seen = views(images, augmentation)
    assert torch.equal(before, torch.get_rng_state())
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 255
    changed = [not torch.equal(a, b.float()) for a, b in zip(seen, images, strict=True)]
    assert sum(changed) > 32
    alike = images[:1].expand(64, -1, -1, -1)
    assert len({one.numpy().tobytes() for one in views(alike, augmentation)}) > 16


@pytest.mark.parametrize("name", ["light", "standard", "strong"])
@pytest.mark.parametrize("side", [16, 24])
def test_no_batch_changes_what_becomes_of_an_image(images: Tensor, name: str, side: int) -> None:
    augmentation = dataclasses.replace(named(name, side), policy="rand_augment", erase=0.5)
    together = views(images, augmentation, side=side)
    alone = [views(images[n : n + 1], augmentation, side=side, first=n) for n in range(64)]
    assert torch.equal(together, torch.cat(alone))


def test_erasing_covers_as_many_images_as_asked() -> None:
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    changed = (views(images, Augmentation(erase=0.5)) != images).flatten(1).any(1)
    assert 16 < int(changed.sum()) < 48
    assert torch.equal(views(images, Augmentation(erase=0.0)), images.float())


def test_the_plan_says_what_happens() -> None:
    def asked(**config: Any) -> Augmentation | None:
        body = TrainConfig.model_validate({"architecture": "lenet", **config})
        counts = {"train": {"cat": 9, "dog": 9}, "val": {"cat": 2, "dog": 2}}
        summary = {"classes": ["cat", "dog"], "counts": counts}
        return planned(resolve(body, catalogue.get("lenet"), summary))

    assert asked() == named("standard", 32)
    assert asked(augmentation="none") is None
    assert asked(augmentation="none", erasing=0.2) == Augmentation(erase=0.2)
    assert asked(augmentation="strong") == named("strong", 32, "trivial_augment", 0.25)
    assert asked(augmentation="strong", augmentation_policy="none", erasing=0) == named(
        "strong", 32
    )
