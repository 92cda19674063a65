"""What must be true of every service at rest, whatever was killed on the way there."""

import hashlib
import itertools
import json

from sqlalchemy import select

from core.resources import Resources
from core.tables import Job, JobEvent, ModelVersion
from core.transitions import MOVES


def broken(resources: Resources) -> list[str]:
    """Return every invariant that does not hold, in words."""
    with resources.database.read() as session:
        jobs = list(session.scalars(select(Job)))
        events = list(session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)))
        versions = list(session.scalars(select(ModelVersion)))
    wrong = []
    for job in jobs:
        own = [event for event in events if event.job_id == job.id]
        published = [version for version in versions if version.job_id == job.id]
        wrong += history(job, own)
        expected = int(job.kind == "finetune" and job.state == "succeeded")
        if len(published) != expected:
            wrong.append(f"{job.id} is {job.state} and has {len(published)} model versions")
    for version in versions:
        wrong += artefact(resources, version)
    return wrong


def history(job: Job, events: list[JobEvent]) -> list[str]:
    """Return what is wrong with the events of one job."""
    wrong = []
    if [event.seq for event in events] != list(range(1, job.last_seq + 1)):
        wrong.append(f"{job.id} has gaps in its events")
    states = [event.data["state"] for event in events if event.kind == "state"]
    for before, after in itertools.pairwise(states):
        if after not in MOVES[before]:
            wrong.append(f"{job.id} went from {before} to {after}")
    if states and states[-1] != job.state:
        wrong.append(f"{job.id} is {job.state} but its history ends {states[-1]}")
    fences = [event.fence for event in events]
    if fences != sorted(fences):
        wrong.append(f"{job.id} was written to by an attempt that had lost it")
    epochs = [event.data["epoch"] for event in events if event.kind == "epoch"]
    if epochs != list(range(1, len(epochs) + 1)):
        wrong.append(f"{job.id} tells its epochs as {epochs}")
    return wrong


def artefact(resources: Resources, version: ModelVersion) -> list[str]:
    """Return what is wrong with the stored files of one model version."""
    storage, wrong = resources.storage, []
    listed = json.loads(storage.get_bytes(f"{version.prefix}/manifest.json"))
    if listed != version.files:
        wrong.append(f"{version.id} and its manifest disagree")
    for name, facts in version.files.items():
        data = storage.get_bytes(f"{version.prefix}/{name}")
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            wrong.append(f"{version.id} has a damaged {name}")
    return wrong
