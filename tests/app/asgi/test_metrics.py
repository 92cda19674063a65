"""Counters of several api processes, told by each of them."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.app.apiclient import config, zipped
from tests.app.apiprocess import Api, start
from tests.waiting import wait_for

ADMIN = "quite-a-long-secret-of-the-admin"
KEY = {"Authorization": f"Bearer {ADMIN}"}


@pytest.fixture
def apis(tmp_path: Path, migrated: Path) -> Iterator[tuple[Api, Api]]:
    """Two api processes on one data folder."""
    for first in start(tmp_path, migrated, TOPWORK_ADMIN_KEY=ADMIN):
        second = Api(first.data, first.resources, TOPWORK_ADMIN_KEY=ADMIN)
        try:
            yield first, second
        finally:
            second.process.kill()
            second.process.wait()


def counted(api: Api, sample: str) -> float:
    text = httpx2.get(f"{api.url}/metrics", headers=KEY).text
    found = re.findall(rf"^{re.escape(sample)} (.+)$", text, re.MULTILINE)
    assert len(found) < 2, found
    return float(found[0]) if found else 0.0


def test_each_process_tells_the_sum(apis: tuple[Api, Api]) -> None:
    looked = 'topwork_http_requests_total{method="GET",route="/jobs",status="200"}'
    refused = 'topwork_http_problems_total{code="unauthorized"}'
    for api, times in zip(apis, (2, 3), strict=True):
        for _ in range(times):
            assert httpx2.get(f"{api.url}/jobs", headers=KEY).status_code == 200
        assert httpx2.get(f"{api.url}/jobs").status_code == 401
    seconds = 'topwork_http_seconds_count{method="GET",route="/jobs"}'
    for api in apis:  # A request is counted once its answer was sent.
        for sample, expected in ((looked, 5), (refused, 2), (seconds, 5)):
            wait_for(lambda: counted(api, sample) >= expected)  # noqa: B023 - called at once.
            assert counted(api, sample) == expected
    first, second = apis
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    assert counted(first, looked) == 5
    files = {path.name for path in (first.data / "run" / "counters").iterdir()}
    second.launch()
    assert httpx2.get(f"{second.url}/jobs", headers=KEY).status_code == 200
    assert counted(first, looked) == counted(second, looked) == 6
    assert {path.name for path in (first.data / "run" / "counters").iterdir()} == files


def test_replays_and_jobs_are_counted(apis: tuple[Api, Api]) -> None:
    for api in apis:
        files = {"file": ("x.zip", zipped())}
        once = KEY | {"Idempotency-Key": "a"}
        answer = httpx2.post(f"{api.url}/finetune", files=files, data=config(), headers=once)
        assert answer.status_code == 202, answer.text
    for api in apis:
        assert counted(api, "topwork_http_replays_total") == 1
        assert counted(api, 'topwork_jobs{kind="ingest",state="queued"}') == 1
        assert counted(api, "topwork_audit_entries_total") >= 1


def test_a_torn_file_is_begun_anew(apis: tuple[Api, Api]) -> None:
    first, second = apis
    first.stop()
    file = first.data / "run" / "counters" / "counter_0.db"
    file.write_bytes(b"\xff\xff\0\0torn" + file.read_bytes()[100:])
    second.stop()
    first.launch()
    assert httpx2.get(f"{first.url}/jobs", headers=KEY).status_code == 200
    jobs = 'topwork_http_requests_total{method="GET",route="/jobs",status="200"}'
    assert counted(first, jobs) == 1
