import numpy as np
import pytest

from models.data.randomness import drawn, order, step_seed, uniforms


def test_an_order_is_a_permutation_that_changes_with_seed_and_epoch() -> None:
    first = order(1, 1, 1000)
    assert sorted(first) == list(range(1000))
    assert (first == order(1, 1, 1000)).all()
    for other in (order(1, 2, 1000), order(2, 1, 1000)):
        assert (first == other).sum() < 20


def test_numbers_of_a_sample_do_not_depend_on_the_batch() -> None:
    together = uniforms(1, 7, 3, np.arange(100), 5)
    alone = uniforms(1, 7, 3, np.array([42]), 5)
    assert (together[42] == alone[0]).all()


def test_numbers_are_uniform_and_uncorrelated() -> None:
    values = uniforms(1, 7, 3, np.arange(20_000), 4)
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean(0) == pytest.approx([0.5] * 4, abs=0.01)
    assert values.var(0) == pytest.approx([1 / 12] * 4, abs=0.005)
    off = np.corrcoef(values.T) - np.eye(4)
    assert abs(off).max() < 0.03


def test_drawing_follows_the_weights() -> None:
    weights = np.array([1.0] * 900 + [9.0] * 100)
    chosen = drawn(5, 1, weights)
    assert len(chosen) == 1000
    assert (chosen >= 900).mean() == pytest.approx(0.5, abs=0.06)


def test_step_seeds_differ() -> None:
    seeds = {step_seed(s, e, i) for s in range(3) for e in range(5) for i in range(50)}
    assert len(seeds) == 3 * 5 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)
