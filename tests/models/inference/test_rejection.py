"""Thresholds keep their word about coverage, and each question gets its own answer."""

from typing import Any

import numpy as np
import pytest
import torch

from models.inference.rejection import Rejection, interval, nearest, unit
from topwork.errors import IntegrityError, RejectionUnavailable


def rejection(similarities: torch.Tensor, confidences: torch.Tensor) -> Rejection:
    scores = (one.double().numpy() for one in (similarities, confidences))
    return Rejection(np.eye(3, dtype=np.float32), 1, *scores)


def drawn(images: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores that depend on each other: an odd image is an unsure one."""
    shared = torch.randn(images, generator=generator)
    own = torch.randn(2, images, generator=generator)
    similarity, confidence = (shared + own).sigmoid()
    return similarity, confidence


@pytest.mark.parametrize(("images", "coverage"), [(50, 0.95), (199, 0.99), (60, 0.8)])
def test_the_stated_share_of_further_images_is_accepted(images: int, coverage: float) -> None:
    """On average over many draws at least the stated share; each share within its interval."""
    generator, shares, inside = torch.Generator().manual_seed(1), [], 0
    others = drawn(4000, generator)
    for _ in range(100):
        found = rejection(*drawn(images, generator)).thresholds(coverage)
        accepted = (others[0] >= found.similarity) & (others[1] >= found.confidence)
        share = float(accepted.double().mean())
        shares.append(share)
        inside += found.low - 0.01 <= share <= found.high + 0.01
    assert coverage - 0.006 <= sum(shares) / 100 <= coverage + 2 / images
    assert inside >= 90


def test_too_few_images_promise_nothing() -> None:
    scores = torch.linspace(0, 1, 48)
    with pytest.raises(RejectionUnavailable, match="48 images cannot promise a share"):
        rejection(scores, scores).thresholds(0.98)
    assert rejection(scores, scores).thresholds(0.95).coverage == 0.95


def test_each_question_has_its_reason() -> None:
    scores = torch.linspace(0.5, 1, 100)
    found = rejection(scores, scores.flip(0)).thresholds(0.9)
    assert found.reason(0.9, 0.9) is None
    assert found.reason(0.4, 0.9) == "unknown"
    assert found.reason(0.9, 0.4) == "unsure"
    assert found.reason(0.4, 0.4) == "unknown"
    assert found.similarity == found.confidence  # Neither takes the other's share.


def test_equal_scores_are_judged_alike() -> None:
    """A model that is equally sure of nearly all images does not reject them at random."""
    similar = torch.linspace(0, 1, 100)
    found = rejection(similar, torch.full((100,), 0.99, dtype=torch.float64)).thresholds(0.95)
    assert found.reason(1.0, 0.99) is None
    assert found.confidence == pytest.approx(0.99, abs=1e-5)
    assert 0.94 <= sum(found.reason(one, 0.99) is None for one in similar.tolist()) / 100 <= 0.98


def test_the_interval_is_that_of_the_beta_distribution() -> None:
    """With none of 20 images rejected, of one parameter it is a power with known quantiles."""
    low, high = interval(20, 20)
    assert high == pytest.approx(0.975 ** (1 / 20), abs=1e-9)
    # 20 draws with at least 19 hits have this chance at the lower end.
    assert 20 * low**19 - 19 * low**20 == pytest.approx(0.025, abs=1e-9)


def test_similarity_is_the_mean_cosine_to_the_nearest() -> None:
    features = np.array([[3, 0], [0, 2]], np.float32)
    references = unit(np.array([[1, 0], [1, 1], [-1, 0]], np.float32))
    half = 0.5**0.5
    assert nearest(features, references, 2).tolist() == pytest.approx([(1 + half) / 2, half / 2])
    groups = np.array([7, 8]), np.array([7, 8, 9])
    assert nearest(features, references, 1, groups).tolist() == pytest.approx([half, 0])


def test_images_are_compared_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more cosines are in memory than stated."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(23, 8)).astype(np.float32)
    references = unit(generator.normal(size=(50, 8)).astype(np.float32))
    groups = np.arange(23), np.arange(50)
    whole = nearest(features, references, 3, groups)
    monkeypatch.setattr("models.inference.rejection.CHUNK", 4 * 50)
    sizes = []
    plain = np.partition

    def partition(cosines: Any, *more: Any, **named: Any) -> Any:
        sizes.append(cosines.size)
        return plain(cosines, *more, **named)

    monkeypatch.setattr(np, "partition", partition)
    assert nearest(features, references, 3, groups) == pytest.approx(whole)
    assert max(sizes) == 4 * 50


@pytest.mark.parametrize(
    ("shape", "neighbours"), [((0, 3), 1), ((2, 3), 3), ((2, 3), 0), ((2,), 1)]
)
def test_a_file_that_does_not_fit_is_refused(shape: tuple[int, ...], neighbours: int) -> None:
    with pytest.raises(IntegrityError):
        Rejection(np.ones(shape, np.float32), neighbours, np.ones(4), np.ones(4))
    with pytest.raises(IntegrityError):
        Rejection(np.eye(2, dtype=np.float32), 1, np.ones(4), np.array([1, 1, 1, np.nan]))
