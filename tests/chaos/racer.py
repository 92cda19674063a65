"""A worker without a child: claims, renews and publishes as fast as it can, until all is done.

`python -m tests.chaos.racer NUMBER STALL`: the first attempt of one job in nine stalls STALL
seconds beyond its lease before it tries to publish. Prints what happened as one JSON object.
"""

import hashlib
import json
import sys
import time

from sqlalchemy import func, select

from core.domain import leases, registry
from core.store.resources import Resources, open_resources
from core.store.tables import Job
from core.system.settings import Settings
from topwork.kinds import TERMINAL

WEIGHTS = "weights.safetensors"
SWEEP = 0.1  # Seconds between two sweeps of one racer.


def publish(resources: Resources, job: Job) -> None:
    """Store a small artefact under this attempt's prefix and commit it with the job's success."""
    prefix = f"models/{job.id}/{job.fence}"
    digest = hashlib.sha256(job.id.encode()).hexdigest()
    files = {WEIGHTS: {"sha256": digest, "size": len(job.id)}}
    resources.storage.put_bytes(f"{prefix}/{WEIGHTS}", job.id.encode())
    resources.storage.put_bytes(f"{prefix}/manifest.json", json.dumps(files).encode())
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        version = registry.publish(
            session,
            name="race",
            job_id=job.id,
            digest=digest,
            prefix=prefix,
            files=files,
            card={},
        )
        leases.succeed(session, job.id, job.fence, {"model": f"race@{version.number}"})


def attempt(resources: Resources, job: Job, stall: float) -> bool:
    """Run one claimed job; tell whether it was ours to the end."""
    lease = resources.settings.lease_seconds
    try:
        with resources.database.write() as session:
            leases.renew(session, job.id, job.fence, lease)
            leases.record(session, job.id, job.fence, [{"kind": "progress", "step": job.fence}])
        if job.config["number"] % 9 == 0 and job.attempt == 1:
            time.sleep(lease + stall)
            leases.sweep(resources.database, resources.settings)
        publish(resources, job)
    except leases.LostLease:
        return False
    return True


def race(resources: Resources, owner: str, stall: float) -> dict[str, int]:
    """Take part until no job is left."""
    counts = {"claims": 0, "published": 0, "refused": 0}
    swept_at = 0.0
    while True:
        if time.monotonic() - swept_at > SWEEP:
            leases.sweep(resources.database, resources.settings)
            swept_at = time.monotonic()
        with resources.database.read() as session:
            seen = leases.best(session)
        if seen is not None:
            with resources.database.write() as session:
                job = leases.claim(session, seen, owner, resources.settings.lease_seconds)
            if job is None:  # Another was quicker.
                continue
        else:
            with resources.database.read() as session:
                left = select(func.count()).where(Job.state.not_in(TERMINAL))
                if session.execute(left).scalar_one() == 0:
                    return counts
            time.sleep(0.02)
            continue
        counts["claims"] += 1
        counts["published" if attempt(resources, job, stall) else "refused"] += 1


if __name__ == "__main__":
    with open_resources(Settings(), doorbell=lambda _celery: None) as opened:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        began = time.time()
        told = race(opened, f"racer {sys.argv[1]}", float(sys.argv[2]))
        sys.stdout.write(json.dumps(told | {"began": began, "ended": time.time()}) + "\n")
