"""Comparisons of two versions of a model, out of what their evaluations have kept in storage."""

from typing import Annotated

from fastapi import Query

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
    return comparison.compare(
        evaluated(service, before),
        evaluated(service, after),
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
