"""Jobs as clients see them."""

from sqlalchemy.orm import Session

from app.api.views.rows import shaped
from core.domain import jobs, predictions
from core.store import tables
from topwork import types
from topwork.kinds import JobKind, Phase, Product

PRIORITY_NAMES = {number: name for name, number in jobs.PRIORITIES.items()}
TRAINING = [kind for kind in JobKind if Phase.TRAINING in kind.phases]
PREDICTIONS = JobKind.making(Product.PREDICTIONS)
MODELS = JobKind.making(Product.MODEL_VERSION)
EXPORTS = JobKind.making(Product.EXPORT)


def job_view(session: Session, row: tables.Job) -> types.Job:
    """Return a job with its place in the queue."""
    config = dict(row.config)
    return shaped(
        types.Job,
        row,
        state=jobs.display_state(row),
        queue_position=jobs.queue_position(session, row),
        starts_in=jobs.starts_in(session, row),
        waiting_for=jobs.waits_for(session, row),
        dataset=_dataset(row),
        model=config.pop("name", None),
        config=config,
        priority=PRIORITY_NAMES[row.priority],
        metadata=row.user_metadata,
        links=_links(row),
    )


def _dataset(row: tables.Job) -> str | None:
    if row.dataset_id is None or row.dataset_version is None:
        return row.dataset_id
    return f"{row.dataset_id}@{row.dataset_version}"


def _links(row: tables.Job) -> dict[str, str]:
    path = f"/jobs/{row.id}"
    links = {"self": path, "events": f"{path}/events", "logs": f"{path}/logs"}
    if row.kind in TRAINING:
        links["metrics"] = f"{path}/metrics"
    if row.kind in PREDICTIONS:
        links["results"] = f"/predictions/{row.id}/results"
        if predictions.location(row, predictions.EVALUATION) is not None:
            links["evaluation"] = f"/predictions/{row.id}/evaluation"
    if row.dataset_id:
        links["dataset"] = f"/datasets/{row.dataset_id}"
    if row.kind in MODELS and row.result and "model" in row.result:
        name, _, number = str(row.result["model"]).partition("@")
        links["model"] = f"/models/{name}/versions/{number}"
    if row.kind in EXPORTS and row.result:
        version = f"/models/{row.config['name']}/versions/{row.config['number']}"
        links["export"] = f"{version}/exports/{row.config['format']}"
    return links
