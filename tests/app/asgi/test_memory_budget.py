from contextlib import ExitStack

import pytest

from app.asgi.memory_budget import LEAST, Admission, Body
from topwork.errors import PredictorBusy, TooManyRequests

SHARE = 10 * LEAST


@pytest.fixture
def admission() -> Admission:
    return Admission(2, 2 * SHARE)


def test_places_are_taken_and_given_back(admission: Admission) -> None:
    for _ in range(2):
        with admission.one("a"), admission.one("a"):
            with pytest.raises(PredictorBusy), admission.one("a"):
                pytest.fail("a third place")
            with admission.one("b"), pytest.raises(PredictorBusy), admission.one("b"):
                pytest.fail("another one is let in once")
    admission.check("a")
    assert not admission.held


def test_a_body_counts_what_has_come_of_it(admission: Admission) -> None:
    with admission.body("a") as body:
        assert admission.bytes["a"] == LEAST
        body.arrive(10)
        assert admission.bytes["a"] == LEAST
        body.copies = 3
        body.arrive(LEAST - 10)
        assert admission.bytes["a"] == 3 * LEAST
        body.hold(LEAST)
        assert admission.bytes["a"] == LEAST
    assert not admission.bytes


def test_one_owner_gets_half_and_the_others_the_rest(admission: Admission) -> None:
    with ExitStack() as stack:

        def begun(owner: str) -> Body:
            return stack.enter_context(admission.body(owner))

        begun("a").arrive(4 * LEAST)
        greedy = begun("a")
        with pytest.raises(TooManyRequests) as refused:
            greedy.arrive(LEAST + LEAST // 2)
        assert refused.value.retry_after > 0
        begun("b").arrive(5 * LEAST)
        with pytest.raises(PredictorBusy):
            begun("c").arrive(LEAST)
    assert not admission.bytes


def test_bodies_of_which_nothing_comes_are_bounded_too(admission: Admission) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(admission.body("a"))
        with pytest.raises(TooManyRequests):
            stack.enter_context(admission.body("a"))
        stack.enter_context(admission.body("b"))
