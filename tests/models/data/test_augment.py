import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data import augment as augmenting
from models.data.augment import Augmentation, augment, named, planned
from models.data.randomness import AUGMENT, uniforms
from models.planning import catalogue
from models.planning.plan import resolve
from topwork.types.training import TrainConfig

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


def test_moved_pixels_are_the_same_on_every_machine() -> None:
    """Seeds keep their meaning; what is interpolated differs in its last bits between CPUs."""
    images = (torch.arange(8 * 3 * 16 * 16) * 7 % 251).to(torch.uint8).view(8, 3, 16, 16)
    seen = views(images, Augmentation(shift=0.25, mirror=True)).to(torch.uint8)
    assert hashlib.sha256(seen.numpy().tobytes()).hexdigest()[:16] == "e83ba1db1a0d7368"


def test_a_view_depends_on_sample_and_epoch_only(images: Tensor) -> None:
    how = named("strong", 224)
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
    seen = views(images, how, side=24)
    assert seen.shape == (64, 3, 24, 24)
    assert seen.min() >= 0
    assert seen.max() <= 255


def test_light_never_mirrors() -> None:
    assert not named("light", 32).mirror
    assert named("standard", 32).mirror


def test_moving_pixels_is_the_interpolation_it_replaces(images: Tensor) -> None:
    how = Augmentation(shift=0.25, mirror=True)
    draws = torch.from_numpy(uniforms(AUGMENT, 3, 1, SAMPLES, 12))
    theta = augmenting._move(draws, how, torch.ones(64), 16)
    theta[:, :, 0] *= (2 * draws[:, :1] - 1).sign()
    grid = functional.affine_grid(theta, [64, 3, 16, 16], align_corners=False)
    assert torch.allclose(augmenting._grid(theta, 16), grid, atol=1e-5)
    expected = functional.grid_sample(
        images.float(), grid, padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(views(images, how), expected, atol=0.01, rtol=0)


def test_without_a_crop_the_middle_of_an_oblong_image_is_seen() -> None:
    ramp = torch.linspace(0, 255, 64).to(torch.uint8).expand(64, 3, 64, 64).contiguous()
    wide = views(ramp, Augmentation(degrees=1e-6), aspect=2.0)
    assert float(wide[..., 0].mean()) == pytest.approx(255 / 4, abs=8)
    assert float(wide[..., -1].mean()) == pytest.approx(255 * 3 / 4, abs=8)


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
def test_a_policy_changes_each_image_by_its_own_number(images: Tensor, policy: str) -> None:
    how = Augmentation(policy=policy)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seen = views(images, how)
    assert torch.equal(before, torch.get_rng_state())
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 255
    changed = [not torch.equal(a, b.float()) for a, b in zip(seen, images, strict=True)]
    assert sum(changed) > 32
    alike = images[:1].expand(64, -1, -1, -1)
    assert len({one.numpy().tobytes() for one in views(alike, how)}) > 16


@pytest.mark.parametrize("name", ["light", "standard", "strong"])
@pytest.mark.parametrize("side", [16, 24])
def test_no_batch_changes_what_becomes_of_an_image(images: Tensor, name: str, side: int) -> None:
    how = dataclasses.replace(named(name, side), policy="rand_augment", erase=0.5)
    together = views(images, how, side=side)
    alone = [
        augment(
            images[n : n + 1],
            torch.ones(1),
            SAMPLES[n : n + 1],
            how=how,
            side=side,
            seed=3,
            epoch=1,
        )
        for n in range(64)
    ]
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
