"""Which images are listed as suspects, and in which order."""

import json
from pathlib import Path

import pytest
import torch

from models.data.dataset import Sample
from models.evaluation.suspects import FILE, Judged, Suspects, find
from topwork.kinds import AbstainReason, SuspectKind


def sample(number: int, label: int) -> Sample:
    return Sample(f"{number:064}", f"{number}.png", label, "shard", 0, 1, 8, 8)


def said(label: int, sure: float) -> list[float]:
    """Logits of an answer."""
    return [sure, 0.0] if label == 0 else [0.0, sure]


def test_the_worst_of_each_kind_come_first_across_splits() -> None:
    """`val` has the surest wrong label, and its numbers are counted on from those of the folds."""
    folds = Judged(
        [sample(number, number % 2) for number in range(20)],
        torch.tensor(
            [said(number % 2, 4.0) for number in range(18)] + [said(1, 4.8), said(0, 5.0)]
        ),
        [None] * 19 + [AbstainReason.UNKNOWN],
        torch.linspace(0.5, 0.9, 20),
    )
    held_out = Judged(
        [sample(20, 0), sample(21, 1)],
        torch.tensor([said(1, 6.0), said(1, 4.0)]),
        [AbstainReason.UNSURE, AbstainReason.UNKNOWN],
        torch.tensor([0.2, -0.1]),
    )
    found = find([folds, held_out], ["ant", "bee"], 2.0)
    told = [(line["path"], line["class"], line["finding"], line["likely"]) for line in found.lines]
    assert told == [
        ("20.png", "ant", "label_suspect", "bee"),
        ("19.png", "bee", "label_suspect", "ant"),
        ("18.png", "ant", "label_suspect", "bee"),
        ("21.png", "bee", "outlier", None),
        ("19.png", "bee", "outlier", None),
    ]
    scores = [line["score"] for line in found.lines]
    shares = torch.tensor([3.0, 2.5, 2.4]).sigmoid().tolist()  # By the temperature.
    assert scores == pytest.approx([*shares, 1.0, 0.1], abs=1e-6)
    assert found.stated() == {"judged": 22, "label_suspect": 3, "outlier": 2}
    assert found.words() == "Of 22 images 3 may have a wrong label and 2 are like no other."


def test_without_a_measure_of_likeness_labels_alone_are_judged(tmp_path: Path) -> None:
    rows = torch.tensor([said(0, 4.0)] * 9 + [said(1, 5.0)] + [said(1, 4.0)] * 10)
    samples = [sample(number, number // 10) for number in range(20)]
    found = find([Judged(samples, rows, [None] * 20, None)], ["ant", "bee"], 1.0)
    found.write(tmp_path)
    (line,) = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (line["sha256"], line["finding"]) == (f"{9:064}", SuspectKind.LABEL)


def test_where_nobody_answered_there_are_no_suspects(tmp_path: Path) -> None:
    assert find([], ["ant", "bee"], 1.0) == Suspects()
    Suspects().write(tmp_path)
    assert (tmp_path / FILE).read_text() == Suspects().words() == ""
