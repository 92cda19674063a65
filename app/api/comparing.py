"""Comparisons of two versions of a model, out of what their evaluations have kept in storage."""

from typing import Annotated, Literal

from fastapi import Depends, Query

from app.api.deps import ServiceHere, Text, Who
from app.api.manifests import json_lines
from app.api.state import Service
from core.domain import comparison, registry
from core.store.row_access import Caller
from core.store.tables import ModelVersion
from topwork import types
from topwork.errors import NotComparable
from topwork.types.models import POINTER

PREDICTIONS = "predictions.jsonl"
Pointer = Annotated[
    str, Query(pattern=POINTER, examples=["3"], description="Number or alias of a version.")
]


COMPARERS = 2  # At once; the answers about all images of two versions are held in memory.


def compare(
    service: Service, caller: Caller, name: str, old: str, new: str, split: str | None = None
) -> types.Comparison:
    """Compare the versions that two pointers mean; takes a moment for many images.

    Raises:
        ModelNotFound: No such model, version or alias.
        NotComparable: No image was held out from both.
    """
    with service.resources.database.read(caller) as session:
        versions = [registry.resolve(session, f"{name}@{pointer}") for pointer in (old, new)]
    before, after = versions
    said = evaluated(service, before)
    return comparison.compare(
        said,
        said if after.id == before.id else evaluated(service, after),
        model=name,
        numbers=(before.number, after.number),
        classes=(before.card.get("classes") or [], after.card.get("classes") or []),
        split=split,
    )


def evaluated(service: Service, version: ModelVersion) -> comparison.Evaluated:
    """Return what a version's evaluation said about each image.

    Raises:
        NotComparable: The version has no such file.
    """
    if PREDICTIONS not in version.files:
        raise NotComparable(f"{version.name}@{version.number} has kept no answers")
    lines = json_lines(service.resources.storage, f"{version.prefix}/{PREDICTIONS}")
    return comparison.evaluated(lines)


def _compared(
    name: Text, old: Pointer, new: Pointer, service: ServiceHere, who: Who,
    split: Literal["val", "test"] | None = None,
) -> types.Comparison:  # fmt: skip
    return compare(service, who, name, old, new, split)


Compared = Annotated[types.Comparison, Depends(_compared, max_concurrency=COMPARERS)]
