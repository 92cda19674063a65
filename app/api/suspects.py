"""Images that the evaluation of a model takes for wrongly labelled, or for like no other."""

import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

from app.api import downloads
from app.api.manifests import Manifest, matches
from app.api.state import Service
from app.api.views.datasets import image_view
from core.domain import registry
from core.ingest.manifest import CONFIRMED, Line
from core.store import verified
from core.store.row_access import Caller
from core.store.tables import DatasetVersion, ModelVersion
from topwork import types
from topwork.errors import InvalidField, NotFound, NotJudged
from topwork.kinds import SuspectKind

FILE = "suspects.jsonl"


class Asked(NamedTuple):
    """Which images of a version are asked for.

    Attributes:
        wanted: Class, split and finding that they have; None is any.
        model: Whose evaluation names suspects; the newest that was trained on the dataset if None.
        limit: Most images.
        after: SHA-256 of the last one seen.
    """

    wanted: dict[str, str | None]
    model: str | None
    limit: int
    after: str | None


class Listed(NamedTuple):
    """An image of the version, and why it is listed."""

    line: Line
    suspect: types.Suspect


def page_of(
    service: Service, caller: Caller, version: DatasetVersion, asked: Asked
) -> tuple[list[types.Image], bool]:
    """Return images of a version, and whether more follow: suspects where they are asked for."""
    if asked.wanted["finding"] in list(SuspectKind):
        found, has_more = select(service, caller, version, asked)
        return [image_view(version, *one) for one in found], has_more
    if asked.model is not None:
        raise InvalidField(f"it goes with finding={' or '.join(SuspectKind)}", param="model")
    manifest = service.manifests.of(version)
    lines, has_more = manifest.select(limit=asked.limit, after=asked.after, wanted=asked.wanted)
    return [image_view(version, line) for line in lines], has_more


def select(
    service: Service, caller: Caller, version: DatasetVersion, asked: Asked
) -> tuple[list[Listed], bool]:
    """Return up to `limit` suspects of a kind behind the image `after`, and whether more follow.

    The worst come first. Those of another version of the dataset are listed as far as they are in
    this one with the label that was judged; a label that is confirmed is no suspect.

    Args:
        service: Where models and manifests are.
        caller: Whose models count.
        version: Of the dataset.
        asked: Which of them.

    Raises:
        NotJudged: No such model is there, or this one has looked for none.
        ModelNotFound: There is no such model.
        InvalidField: It was trained on another dataset.
        NotFound: `after` is no such image.
    """
    wanted, model, limit, after = asked
    judge = _judge(service, caller, version, model)
    content = verified.content(service.resources.storage, *downloads.location(judge, FILE))
    rows = [json.loads(row) for row in content.splitlines()]
    own = [row for row in rows if row["finding"] == wanted["finding"]]
    found = list(_listed(service.manifests.of(version), own, wanted, judge))
    start = 0
    if after is not None:
        places = {one.line["sha256"]: place for place, one in enumerate(found, 1)}
        if after not in places:
            raise NotFound(f"the image {after} is not in this list", param="after")
        start = places[after]
    return found[start : start + limit], len(found) > start + limit


def _judge(
    service: Service, caller: Caller, version: DatasetVersion, model: str | None
) -> ModelVersion:
    with service.resources.database.read(caller) as session:
        if model is None:
            found = registry.newest_with(session, FILE, version.dataset_id, version.number)
            if found is None:
                raise NotJudged
            return found
        found = registry.resolve(session, model)
    name = f"{found.name}@{found.number}"
    if (found.card.get("dataset") or {}).get("id") != version.dataset_id:
        raise InvalidField(f"{name} was not trained on this dataset", param="model")
    if FILE not in found.files:
        raise NotJudged(f"{name} comes from a trainer that looked for no suspects", param="model")
    return found


def _listed(
    manifest: Manifest,
    rows: Collection[dict[str, str]],
    wanted: dict[str, str | None],
    judge: ModelVersion,
) -> Iterator[Listed]:
    others = {**wanted, "finding": None}  # It is no code of the manifest's.
    for row in rows:
        if row["sha256"] not in manifest.position:
            continue
        line = manifest.line(row["sha256"])
        of_label = row["finding"] == SuspectKind.LABEL
        settled = of_label and (CONFIRMED in line["findings"] or line["class"] != row["class"])
        if not settled and matches(line, others):
            told = {**row, "model": f"{judge.name}@{judge.number}"}
            yield Listed(line, types.Suspect.model_validate(told))
