"""Epochs as a training reports them, and the one that is kept."""

from typing import Any

import pytest

from models.training import choice


def epoch(accuracy: float, loss: float) -> dict[str, Any]:
    return {"val_accuracy": accuracy, "val_loss": loss, "train_loss": loss}


def kept(epochs: list[dict[str, Any]], metric: str, images: int) -> int:
    """Return the number of the epoch that is kept in the end."""
    place = 0
    for number, record in enumerate(epochs[1:], 1):
        seen = epochs[:number]
        if choice.better(record, epochs[place], seen, metric=metric, images=images):
            place = number
    return place


def test_luck_on_few_images_does_not_beat_a_smaller_loss() -> None:
    """In warm-up 23 of 24 images were right, before the head had learned anything."""
    epochs = [epoch(20 / 24, 1.5), epoch(23 / 24, 1.31), epoch(22 / 24, 0.6), epoch(22 / 24, 0.2)]
    assert kept(epochs, "val_accuracy", 24) == 3


def test_many_images_tell_accuracies_apart() -> None:
    epochs = [epoch(0.90, 0.31), epoch(0.93, 0.35), epoch(0.92, 0.30)]
    assert kept(epochs, "val_accuracy", 10_000) == 1
    assert kept(epochs, "val_accuracy", 40) == 2


def test_what_fell_behind_is_not_kept_for_its_loss() -> None:
    assert kept([epoch(0.5, 0.1), epoch(0.9, 0.4)], "val_accuracy", 100) == 1


@pytest.mark.parametrize("metric", ["val_loss", "train_loss"])
def test_a_loss_is_compared_as_it_is(metric: str) -> None:
    assert kept([epoch(0.9, 0.5), epoch(0.5, 0.4), epoch(1.0, 0.4)], metric, 10) == 1
