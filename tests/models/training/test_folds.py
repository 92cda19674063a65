import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.training import folds, linear_head
from models.training.linear_head import Answers, Problem


def films(scenes: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, labels and scenes: frames differ little, scenes and labels by chance."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(scenes, 64, generator=generator).repeat_interleave(frames, 0)
    values = first + 0.1 * torch.randn(scenes * frames, 64, generator=generator)
    scene = torch.arange(scenes).repeat_interleave(frames)
    return values, scene % 2, scene


def test_frames_of_a_scene_are_one_group() -> None:
    values, _, scene = films(12, 10)
    groups = folds.near_duplicates(values)
    same = groups[:, None] == groups[None, :]
    assert torch.equal(same, scene[:, None] == scene[None, :])
    assert len(folds.near_duplicates(torch.randn(600, 64)).unique()) == 600


def dealt(values: Tensor, labels: Tensor) -> Tensor:
    """Return the fold of each image."""
    found = folds.deal(values, labels)
    assert not isinstance(found, str), found
    return found.folds


def test_a_head_that_saw_the_scene_does_not_answer_for_it() -> None:
    """Labels are chance: who has seen a scene knows it, who has not can only guess."""
    values, labels, scene = films(20, 10)
    found = linear_head.cross_validate(Problem(values, labels, torch.zeros(2)), 1, lambda: None)
    assert isinstance(found, Answers)
    assert torch.equal(found.images, torch.arange(200))
    assert float(functional.cross_entropy(found.logits, labels)) > 0.6
    held_out = dealt(values, labels)
    assert all(len(held_out[scene == one].unique()) == 1 for one in range(20))
    assert torch.bincount(held_out).tolist() == [40] * 5


def test_folds_divide_every_class_evenly() -> None:
    labels = torch.tensor([0] * 200 + [1] * 40)
    held_out = dealt(torch.randn(240, 64), labels)
    assert torch.bincount(held_out[labels == 0]).tolist() == [40] * 5
    assert torch.bincount(held_out[labels == 1]).tolist() == [8] * 5


def test_a_few_images_are_dealt_to_more_folds() -> None:
    assert torch.bincount(dealt(torch.randn(40, 64), torch.arange(40) % 2)).tolist() == [4] * 10


def test_groups_that_hold_several_classes_take_no_whole_class_out() -> None:
    """Class 1 is in four groups of 50 and one of both classes, class 0 in three small ones."""
    sizes = [50, 50, 50, 50, 3, 2, 1]
    scene = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = torch.tensor([1] * 200 + [0] * 3 + [0, 1] + [0])
    values = torch.eye(64)[scene] + 0.01 * torch.randn(206, 64)
    held_out = dealt(values, labels)
    assert held_out[scene == 4].unique().tolist() != held_out[scene == 5].unique().tolist()
    for label in (0, 1):
        assert len(held_out[labels == label].unique()) > 1


@pytest.mark.parametrize("rare", [1, 12])
def test_a_class_of_which_nothing_can_be_held_out_is_always_seen(rare: int) -> None:
    """It has one image, or frames of one scene; all other images are held out nonetheless."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(1, 64, generator=generator) + 0.01 * torch.randn(rare, 64)
    values = torch.cat([torch.randn(40, 64, generator=generator), frames])
    labels = torch.cat([torch.arange(40) % 2, torch.full((rare,), 2)])
    held_out = dealt(values, labels)
    assert (held_out[40:] == folds.ALWAYS_SEEN).all()
    assert torch.bincount(held_out[:40]).tolist() == [4] * 10
    found = linear_head.cross_validate(Problem(values, labels, torch.zeros(3)), 1, lambda: None)
    assert isinstance(found, Answers)
    assert torch.equal(found.images, torch.arange(40))
    assert found.logits.shape == (40, 3)
    assert len(found.groups[40:].unique()) == 1
    assert f"of {len(found.images)} images" in found.reason


@pytest.mark.parametrize(("scenes", "frames"), [(2, 20), (3, 1)])
def test_nothing_is_held_out_where_no_class_has_two_scenes(scenes: int, frames: int) -> None:
    values, _, scene = films(scenes, frames)
    assert "nearly the same" in str(folds.deal(values, scene))


def test_of_many_images_the_same_ones_are_chosen_for_a_seed() -> None:
    some = folds.chosen(1000, 100, 1)
    assert len(some.unique()) == 100
    assert torch.equal(some, some.sort().values)
    assert torch.equal(some, folds.chosen(1000, 100, 1))
    assert not torch.equal(some, folds.chosen(1000, 100, 2))
