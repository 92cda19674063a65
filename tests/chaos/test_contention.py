"""T14: eight writers, four readers and one long read on one SQLite file."""

from collections.abc import Callable
from itertools import chain

import pytest
from sqlalchemy import text

from core.domain import jobs
from core.store.resources import Resources
from tests.chaos.conftest import Tell, times
from tests.chaos.crowd import answers, crowd, start
from tests.invariants import broken_after_tidying

pytestmark = pytest.mark.chaos
WRITERS, READERS, WRITES = 8, 4, 300
MOST_SECONDS = 0.25


def p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def test_no_write_is_lost_or_locked_out(
    resources: Resources, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    count = times(WRITES)
    with resources.database.write() as session:
        job_id = jobs.submit(session, kind="export", config={}).id
    environment = {"TOPWORK_DATA_DIR": str(resources.settings.data_dir)}
    arguments = [(count, job_id)] * WRITERS + [(0, job_id)] * READERS
    with crowd("tests.chaos.contender", arguments, environment) as members:
        with resources.database.read() as long_read:
            jobs.get(long_read, job_id)
            start(members)
            written = answers(members[:WRITERS])
            before = long_read.execute(text("SELECT last_step FROM job")).scalar_one()
        read = answers(members[WRITERS:])
    writes, reads = (list(chain(*lists)) for lists in (written, read))
    with resources.database.read() as session:
        counter = jobs.get(session, job_id).last_step
    tell(
        f"T14 sqlite: counter {counter}, 0 locked, write p99 {1000 * p99(writes):.0f} ms"
        f" max {1000 * max(writes):.0f} ms, read p99 {1000 * p99(reads):.0f} ms"
    )
    assert counter == WRITERS * count
    assert broken_after_tidying(resources) == []
    assert before == 0  # The long read saw one moment from beginning to end.
    record("T14 p99", p99(writes), MOST_SECONDS)
