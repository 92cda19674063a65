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


def test_a_head_that_saw_the_scene_does_not_answer_for_it() -> None:
    """Labels are chance: who has seen a scene knows it, who has not can only guess."""
    values, labels, scene = films(20, 10)
    found = linear_head.cross_validate(Problem(values, labels, torch.zeros(2)), 1)
    assert isinstance(found, Answers)
    assert torch.equal(found.images, torch.arange(200))
    assert float(functional.cross_entropy(found.logits, labels)) > 0.6
    dealt = folds.deal(values, labels)
    assert not isinstance(dealt, str)
    assert all(len(dealt[scene == one].unique()) == 1 for one in range(20))
    assert torch.bincount(dealt).tolist() == [40] * 5


def test_folds_divide_every_class_evenly() -> None:
    labels = torch.tensor([0] * 200 + [1] * 40)
    dealt = folds.deal(torch.randn(240, 64), labels)
    assert not isinstance(dealt, str)
    assert torch.bincount(dealt[labels == 0]).tolist() == [40] * 5
    assert torch.bincount(dealt[labels == 1]).tolist() == [8] * 5


def test_a_few_images_are_dealt_to_more_folds() -> None:
    dealt = folds.deal(torch.randn(40, 64), torch.arange(40) % 2)
    assert not isinstance(dealt, str)
    assert torch.bincount(dealt).tolist() == [4] * 10


def test_a_class_of_one_scene_cannot_be_held_out() -> None:
    values, labels, _ = films(2, 20)
    assert "nearly the same" in str(folds.deal(values, labels))


def test_a_class_of_one_image_cannot_be_held_out() -> None:
    assert "too few" in str(folds.deal(torch.randn(3, 8), torch.tensor([0, 0, 1])))


def test_of_many_images_the_same_ones_are_chosen_for_a_seed() -> None:
    some = folds.chosen(1000, 100, 1)
    assert len(some.unique()) == 100
    assert torch.equal(some, some.sort().values)
    assert torch.equal(some, folds.chosen(1000, 100, 1))
    assert not torch.equal(some, folds.chosen(1000, 100, 2))
