"""The formula against a hand reckoning; `tests/worker/test_needs.py` holds both askers to it."""

from models.planning import catalogue, disk_needs

MEGABYTE = 10**6


def test_three_checkpoints_two_best_weights_and_the_model_lie_side_by_side() -> None:
    need = disk_needs.of_run(trained=10 * MEGABYTE, whole=12 * MEGABYTE, copies=3)
    assert need == (3 * 3 * 10 + 2 * 10 + 12) * MEGABYTE + disk_needs.SMALL_FILES


def test_a_head_alone_needs_less_than_the_network_and_both_more_than_the_model() -> None:
    for name in catalogue.names():
        facts = catalogue.get(name)
        head, full = (disk_needs.foreseen(facts, strategy) for strategy in ("head", None))
        assert disk_needs.of_artefact(facts) < head < full, name
