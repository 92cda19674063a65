"""T4: six processes race for 300 jobs, one in nine stalls beyond its lease."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from core.domain import jobs
from core.store.tables import Job, ModelVersion
from tests.chaos.conftest import Tell, opened, times
from tests.chaos.crowd import answers, crowd, start

pytestmark = pytest.mark.chaos
RACERS, JOBS, MOST_SECONDS = 6, 300, 10.0
LEASE, STALL = 0.4, 0.1
QUICK = {
    "TOPWORK_LEASE_SECONDS": str(LEASE),
    "TOPWORK_HEARTBEAT_SECONDS": "0.1",
    "TOPWORK_MAX_ATTEMPTS": "50",  # A busy machine may stall some jobs more than once.
}


def test_each_of_300_jobs_is_published_once(
    either_database: tuple[str, dict[str, str]],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    name, environment = either_database
    count = times(JOBS)
    with opened(environment | QUICK) as resources:
        with resources.database.write() as session:
            for number in range(count):
                jobs.submit(session, kind="finetune", config={"number": number})
        arguments = [(number, STALL) for number in range(RACERS)]
        with crowd("tests.chaos.racer", arguments, environment | QUICK) as racers:
            start(racers)
            told = answers(racers)
        with resources.database.read() as session:
            versions = session.execute(select(func.count(ModelVersion.id.distinct()))).scalar_one()
            owners = session.execute(select(func.count(ModelVersion.job_id.distinct())))
            good = select(func.count()).select_from(Job).where(Job.state == "succeeded")
            assert (versions, owners.scalar_one()) == (count, count)
            assert session.execute(good).scalar_one() == count
        total = {key: sum(one[key] for one in told) for key in ("claims", "published", "refused")}
        seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
        tell(f"T4 {name}: {total['published']} published, {total['claims']} claims,"
             f" {total['refused']} stale writes refused, {seconds:.1f} s")  # fmt: skip
        assert total["published"] == count
        assert total["refused"] >= count // 9
        assert total["claims"] == total["published"] + total["refused"]
        record(f"T4 {name}", seconds, MOST_SECONDS)
