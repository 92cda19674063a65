"""An export job: a model version in, a file for other programs out."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.domain import datasets, exports, leases, registry
from core.domain.products import PLACES
from core.store.resources import Resources
from core.store.tables import DatasetVersion, Job, ModelVersion
from core.system.failpoints import hit
from models.planning.export_request import ExportRequest
from models.weights import bundle
from topwork.errors import DatasetNotFound, ModelNotFound
from topwork.kinds import Product
from worker.kinds.finetune import stage_dataset, summary_of
from worker.kinds.kind import Check, Work, download, upload

NEEDED = (bundle.CARD, bundle.WEIGHTS)
OPTIONAL = {"rejection.safetensors", "network.onnx"}  # By these the service answers.
# The file itself and what the exporter holds of it on its way, in sizes of the weights.
COPIES = 3


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring the model to this machine, and the dataset version that it was trained on."""
    with resources.database.read() as session:
        version = _version(session, job)
        dataset = _dataset(session, version)
    names = (*NEEDED, *(OPTIONAL & version.files.keys()))
    files = {name: version.files[name] for name in names}
    download(resources, version.prefix, files, folder / "model", check)
    request = ExportRequest(
        name=f"{version.name}@{version.number}",
        format=job.config["format"],
        model=folder / "model",
        model_sha256=files["card.json"]["sha256"],
    )
    if dataset is not None:
        request.dataset = stage_dataset(resources, dataset, check)
        request.dataset_sha256 = hashlib.sha256(summary_of(dataset)).hexdigest()
    return request.model_dump(mode="json")


def _version(session: Session, job: Job) -> ModelVersion:
    return registry.version(session, job.config["name"], job.config["number"])


def _dataset(session: Session, version: ModelVersion) -> DatasetVersion | None:
    """Return the very version that a model was trained on, if it is still there."""
    origin = version.card.get("dataset") or {}
    try:
        found = datasets.version(session, f"{origin.get('id')}@{origin.get('version')}")
    except DatasetNotFound:
        return None
    return found if found.digest == origin.get("digest") else None


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store the file and the report; the commit makes them the version's export."""
    prefix = PLACES[Product.EXPORT].prefix(job)
    files = upload(resources.storage, folder / "result", prefix, check)
    report = json.loads((folder / "result" / "parity.json").read_text())
    check()
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        version = _version(session, job)
        form = job.config["format"]
        exports.publish(session, version, form, prefix=prefix, files=files, report=report)
        model = f"{version.name}@{version.number}"
        result = {"model": model, "format": form, "report": report}
        leases.succeed(session, job.id, job.fence, result)
        hit("publish.before_commit")
    hit("publish.after_commit")


def needs(resources: Resources, job: Job) -> int:
    """Return the bytes of the model's copy and of the file that is made of it."""
    return COPIES * stores(resources, job)


def stores(resources: Resources, job: Job) -> int:
    """Return the bytes of the weights, which are nearly all of the file."""
    with resources.database.read() as session:
        try:
            return sum(int(_version(session, job).files[name]["size"]) for name in NEEDED)
        except ModelNotFound:
            return 0


WORK = Work("models.export", stage, publish, needs=needs, stores=stores)
