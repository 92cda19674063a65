"""The gate in front of a promotion: evidence in, one line for each rule out."""

from collections.abc import Iterator

from topwork.types.comparisons import Comparison
from topwork.types.promotions import Evidence, Gate, GateCheck


def judge(gate: Gate, found: Comparison) -> Evidence:
    """Hold a comparison against a gate.

    A comparison of a version with itself stands for an alias that points nowhere yet, or there
    already: then the rules that compare are left out. A class of which no image tells has not
    shown that it does not drop, so it fails.
    """
    against = found.old if found.old != found.new else None
    return Evidence(
        against=against,
        split=found.split,
        images=found.accuracy.images,
        checks=[*_alone(gate, found), *(_paired(gate, found) if against else ())],
    )


def _alone(gate: Gate, found: Comparison) -> Iterator[GateCheck]:
    images = found.accuracy.images
    yield GateCheck(rule="min_images", passed=images >= gate.min_images, limit=gate.min_images,
                    value=images)  # fmt: skip
    if gate.max_ece is not None:
        passed = found.ece.new <= gate.max_ece
        yield GateCheck(rule="max_ece", passed=passed, limit=gate.max_ece, value=found.ece.new)


def _paired(gate: Gate, found: Comparison) -> Iterator[GateCheck]:
    """Compare with the version that is to be replaced: all images, then class by class."""
    limit, low = gate.max_accuracy_drop, found.accuracy.low
    if limit is not None:
        drop = None if low is None else -low
        passed = drop is not None and drop <= limit
        yield GateCheck(rule="max_accuracy_drop", passed=passed, limit=limit, value=drop)
    if gate.max_class_drop is None:
        return
    lost = set(found.lost_classes)
    for one in found.per_class:
        drop = 1.0 if one.class_name in lost else one.change and -one.change
        passed = drop is not None and drop <= gate.max_class_drop
        check = {"rule": "max_class_drop", "class": one.class_name, "passed": passed}
        yield GateCheck.model_validate(check | {"limit": gate.max_class_drop, "value": drop})
