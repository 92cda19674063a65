"""An import job: the bundle of a model in, a model version out."""  # noqa: N999 - its kind's word.

import json
from pathlib import Path
from typing import Any

from core.ingest.class_names import MAX_CLASSES, class_name_problem
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Job
from models.planning.import_request import ImportRequest
from topwork.errors import BundleInvalid
from worker.kinds import finetune
from worker.kinds.kind import Check, Work, fetch_upload

COPIES = 4  # The bundle, its files, and the artefact that is made of them.


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring the bundle to this machine.

    Raises:
        IntegrityError: It is not the one that was received.
    """
    check()
    path = folder / "bundle.zip"
    fetch_upload(resources, job.config["upload"], job, path, "model")
    return ImportRequest(bundle=path).model_dump(mode="json")


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Publish the artefact as any other; the bundle has served then.

    Raises:
        BundleInvalid: A class has a name that no dataset could give it, or there are too many.
    """
    classes = json.loads((folder / "result" / "card.json").read_bytes())["classes"]
    if len(classes) > MAX_CLASSES:
        raise BundleInvalid(f"it has {len(classes)} classes; the limit is {MAX_CLASSES}")
    problem = next(filter(None, map(class_name_problem, classes)), None)
    if problem is not None:
        raise BundleInvalid(problem)
    finetune.publish(resources, job, folder, check)
    garbage.discard(resources, [job.config["upload"]])


def needs(resources: Resources, job: Job) -> int:
    """Return the bytes of the bundle's copies."""
    return COPIES * stores(resources, job)


def stores(_resources: Resources, job: Job) -> int:
    """Return the bytes of the artefact: about those of the bundle."""
    return int(job.config["bytes"])


WORK = Work("models.import_model", stage, publish, needs=needs, stores=stores)
