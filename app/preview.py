"""A dry run: what would happen to this request, worked out without storing anything."""

from collections import Counter, defaultdict
from typing import Any

from app import orders
from app.orders import Order
from app.schemas.orders import FinetuneRequest, PlanOut
from app.uploads import Upload
from core.errors import DatasetInvalid, TooFewClasses
from core.ingest.archive import Limits, plan
from core.ingest.layout import Reading, read_layout
from core.ingest.split import Ratios, assign
from core.owners import Caller
from core.resources import Resources
from core.settings import Settings


def preview(resources: Resources, caller: Caller, order: Order) -> PlanOut:
    """Return the plan of a caller's order.

    Raises:
        ArchiveUnreadable, LayoutAmbiguous, TooFewClasses: What the ingestion would say.
        DatasetNotReady: The plan needs the dataset's counts.
        ModelNotFound: There is no such model to start from.
    """
    request = order.request
    with resources.database.read(caller) as session:
        size = orders.parent_size(session, request)
        if order.upload is None:
            name, summary = orders.named_summary(session, request)
    if order.upload is not None:
        name = request.name or orders.model_name(orders.dataset_name(order.upload))
        summary = _summary_of(order.upload, request, resources.settings)
    resolved = orders.resolve_plan(request, summary, size)
    return PlanOut(
        name=name,
        classes=summary["classes"],
        counts=summary["counts"],
        plan=resolved.to_json(),
        eta=resolved.eta_seconds,
        findings=summary.get("findings", []),
        skipped=summary.get("skipped", {}),
        rejected=summary.get("rejected", {}),
    )


def _summary_of(upload: Upload, request: FinetuneRequest, settings: Settings) -> dict[str, Any]:
    """Read an archive's list of members as `dataset.json` would, before any image is opened."""
    from core.ingest.containers import open_container  # noqa: PLC0415 - keeps Pillow out of the start.

    limits = Limits(
        settings.max_archive_entries, settings.max_entry_bytes, settings.max_expanded_bytes
    )
    with upload.path.open("rb") as file:
        container = open_container(file, limits)
        planned = plan(container.members(), limits)
    reading = read_layout(planned.files.values(), planned.folders)
    refused = Counter(
        (refusal.status, refusal.code) for refusal in [*planned.refusals, *reading.refusals]
    )
    classes = sorted({place.class_name for place in reading.places.values()})
    if not classes:
        raise DatasetInvalid
    if len(classes) == 1:
        raise TooFewClasses(f"All images belong to one class, {classes[0]!r}.")
    split = request.split
    return {
        "classes": classes,
        "counts": _counts(reading, Ratios(split.val, split.test, request.seed)),
        "skipped": {code: n for (status, code), n in refused.items() if status == "skipped"},
        "rejected": {code: n for (status, code), n in refused.items() if status == "rejected"},
    }


def _counts(reading: Reading, ratios: Ratios) -> dict[str, dict[str, int]]:
    """Return split -> class -> images; paths stand for the content that is not known yet."""
    given = reading.splits
    missing = Ratios(
        val=0.0 if "val" in given else ratios.val,
        test=0.0 if "test" in given else ratios.test,
        seed=ratios.seed,
    )
    trainable = defaultdict(list)
    for path, place in reading.places.items():
        if place.split in {None, "train"}:
            trainable[place.class_name].append(path)
    drawn = assign(trainable, missing)
    pairs = Counter(
        (drawn.get(path, place.split or "train"), place.class_name)
        for path, place in reading.places.items()
    )
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for (split, name), images in sorted(pairs.items()):
        counts[split][name] = images
    return dict(counts)
