from typing import Any

import pytest
from anyio.to_thread import current_default_thread_limiter
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove
from starlette.testclient import TestClient

from core.domain import events, jobs, leases, workers
from core.store.resources import Resources
from core.store.row_access import Caller
from tests.app.apiclient import Work
from topwork.errors import JobNotFound

MISSING = "job_0000000000000000000000"


def states(client: TestClient, job_id: str) -> list[str]:
    told = client.get(f"/jobs/{job_id}/events").json()["data"]
    return [event["data"]["state"] for event in told if event["kind"] == "state"]


def test_a_job_from_queue_to_success(client: TestClient, work: Work) -> None:
    work.submit(priority="low", config={"name": "pets", "architecture": "lenet"})
    first = work.submit(priority="high")
    listed = client.get("/jobs").json()
    assert [job["queue_position"] for job in listed["data"]] == [0, 1]
    assert [job["priority"] for job in listed["data"]] == ["high", "low"]
    job = work.claim()
    assert job[0] == first
    reports: list[dict[str, Any]] = [
        {"kind": "phase", "phase": "training"},
        {"kind": "progress", "progress": 0.5, "step": 7, "eta": 3.5},
        {"kind": "plan", "plan": {"epochs": {"value": 2, "reason": "x"}}},
        {"kind": "epoch", "epoch": 1, "val_accuracy": 0.8},
        {"kind": "epoch", "epoch": 2, "val_accuracy": 0.9},
    ]
    work.do(leases.record, job, reports)
    now = client.get(f"/jobs/{first}").json()
    assert (now["state"], now["phase"], now["progress"], now["eta"]) == (
        "running", "training", 0.5, 3.5,
    )  # fmt: skip
    assert (now["attempt"], now["worker"]) == (1, "test:1")
    assert now["plan"]["epochs"]["value"] == 2
    assert now["started_at"].endswith("Z")
    epochs = client.get(f"/jobs/{first}/metrics").json()["epochs"]
    assert [row["val_accuracy"] for row in epochs] == [0.8, 0.9]
    work.do(leases.succeed, job, {"model": "pets@3"})
    done = client.get(f"/jobs/{first}").json()
    assert (done["state"], done["progress"], done["links"]["model"]) == (
        "succeeded", 1.0, "/models/pets/versions/3",
    )  # fmt: skip
    assert states(client, first) == ["queued", "running", "succeeded"]


def test_jobs_are_found_by_the_state_that_they_show(client: TestClient, work: Work) -> None:
    asked = {"running": [], "pausing": ["pause"], "cancelling": ["pause", "cancel"]}
    for state, verbs in asked.items():
        work.submit()
        job_id, _fence = work.claim()
        for verb in verbs:
            assert client.post(f"/jobs/{job_id}/{verb}").status_code == 200
        assert client.get(f"/jobs/{job_id}").json()["state"] == state
        found = client.get("/jobs", params={"state": state}).json()["data"]
        assert [job["id"] for job in found] == [job_id]


def test_a_failed_job_says_why(client: TestClient, work: Work) -> None:
    work.submit()
    job = work.claim()
    error = {"code": "loss_diverged", "message": "no number", "param": None, "hint": "smaller"}
    work.do(leases.fail, job, error)
    assert client.get(f"/jobs/{job[0]}").json()["error"] == error | {"options": []}


def test_a_failed_job_lists_the_answers_to_its_question(client: TestClient, work: Work) -> None:
    work.submit()
    job = work.claim()
    options = [{"value": {"classes": "outer"}, "meaning": "2 classes (cat, dog)"}]
    error = {"code": "layout_ambiguous", "message": "two ways", "param": "layout", "hint": None}
    work.do(leases.fail, job, error | {"options": options})
    assert client.get(f"/jobs/{job[0]}").json()["error"]["options"] == options


def test_pages_follow_their_cursor(client: TestClient, work: Work) -> None:
    ids = [work.submit() for _ in range(5)]
    page = client.get("/jobs?limit=2&order=asc")
    seen = [job["id"] for job in page.json()["data"]]
    while page.json()["has_more"]:
        link = page.headers["Link"]
        assert link.endswith('; rel="next"')
        page = client.get(link[1 : link.index(">")])
        seen += [job["id"] for job in page.json()["data"]]
    assert seen == ids
    assert "Link" not in page.headers
    newest_first = client.get("/jobs").json()
    assert newest_first["first_id"] == ids[-1]
    assert newest_first["last_id"] == ids[0]


def test_lists_are_filtered(client: TestClient, work: Work) -> None:
    work.submit(kind="ingest")
    running = work.claim()[0]
    queued = work.submit()
    ids = lambda query: [job["id"] for job in client.get(f"/jobs?{query}").json()["data"]]  # noqa: E731
    assert ids("state=running") == ids("kind=ingest") == [running]
    assert ids("state=queued&kind=finetune") == [queued]
    assert ids("dataset=ds_none") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=x", "limit"), ("state=done", "state"), ("order=up", "order")],
)
def test_a_wrong_query_is_named(client: TestClient, query: str, param: str) -> None:
    answer = client.get(f"/jobs?{query}")
    assert (answer.status_code, answer.json()["param"]) == (422, param)


def test_an_unknown_query_parameter_is_refused(client: TestClient) -> None:
    problem = client.get("/jobs?limt=3").json()
    assert (problem["status"], problem["hint"]) == (422, "Did you mean limit?")


def test_cancel(client: TestClient, work: Work) -> None:
    queued = work.submit()
    assert client.post(f"/jobs/{queued}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{queued}/cancel").json()["state"] == "cancelled"
    work.submit()
    job = work.claim()
    assert client.post(f"/jobs/{job[0]}/cancel").json()["state"] == "cancelling"
    assert client.post(f"/jobs/{job[0]}/cancel").status_code == 200
    work.do(leases.cancelled, job)
    work.submit()
    done = work.claim()
    work.do(leases.succeed, done, {})
    answer = client.post(f"/jobs/{done[0]}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


def test_a_queued_job_says_what_it_waits_for_and_for_how_long(
    client: TestClient, work: Work, resources: Resources
) -> None:
    def look(job_id: str) -> tuple[Any, Any]:
        job = client.get(f"/jobs/{job_id}").json()
        return job["starts_in"], (job["waiting_for"] or {}).get("for")

    plan = {"eta_seconds": {"value": 100.0, "reason": "a guess"}}
    first, second, third = (work.submit(plan=plan) for _ in range(3))
    assert look(first) == (None, "worker")
    with resources.database.write() as session:
        workers.seen(session, "box:1", 2)
    assert [look(one) for one in (first, second, third)] == [
        (0.0, None),
        (0.0, None),
        (100.0, None),
    ]
    job = work.claim()
    work.do(leases.record, job, [{"kind": "progress", "progress": 0.9, "step": 9, "eta": 6.0}])
    assert look(third) == (53.0, None)
    last = work.submit()
    assert look(last) == (103.0, None)
    assert look(work.submit()) == (None, None)  # Nobody has planned the one before it.
    assert look(work.submit(kind="ingest")) == (0.0, None)  # It has slots of its own.
    work.claim()  # Both slots for trainings are taken.
    held = client.get(f"/jobs/{third}").json()["waiting_for"]
    assert held["for"] == "slot"
    assert f"{job[0]} (finetune), with about 6 s left, holds the slot" in held["reason"]
    with resources.database.write() as session:
        leases.postpone(session, third, "disk", "too full")
    answer = client.get(f"/jobs/{third}").json()["waiting_for"]
    assert answer == {"for": "disk", "reason": "too full"}
    assert look(first) == (None, None)  # It runs.


def test_pause_and_resume(client: TestClient, work: Work) -> None:
    def ask(verb: str, job_id: str) -> str:
        return str(client.post(f"/jobs/{job_id}/{verb}").json().get("state"))

    queued = work.submit()
    assert [ask(verb, queued) for verb in ("pause", "pause")] == ["paused", "paused"]
    assert [ask(verb, queued) for verb in ("resume", "resume")] == ["queued", "queued"]
    assert [ask(verb, queued) for verb in ("pause", "cancel")] == ["paused", "cancelled"]
    work.submit()
    job = work.claim()
    assert [ask(verb, job[0]) for verb in ("pause", "pause")] == ["pausing", "pausing"]
    assert ask("resume", job[0]) == "running"
    ask("pause", job[0])
    assert ask("cancel", job[0]) == "cancelling"
    work.do(leases.release, job, "asked to")
    for verb in ("pause", "resume"):
        answer = client.post(f"/jobs/{job[0]}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
    kinds = [event["kind"] for event in client.get(f"/jobs/{job[0]}/events").json()["data"]]
    assert kinds.count("pause_requested") == 2


def test_retry(client: TestClient, work: Work) -> None:
    job_id = work.submit()
    assert client.post(f"/jobs/{job_id}/retry").status_code == 409
    client.post(f"/jobs/{job_id}/cancel")
    answer = client.post(f"/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["Location"] == f"/jobs/{job_id}"


def test_a_retry_is_repeatable(client: TestClient, work: Work) -> None:
    job_id, once = work.submit(), {"Idempotency-Key": "a"}
    client.post(f"/jobs/{job_id}/cancel")
    first, again = (client.post(f"/jobs/{job_id}/retry", headers=once) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    states = [e["data"].get("state") for e in client.get(f"/jobs/{job_id}/events").json()["data"]]
    assert states.count("queued") == 2  # When it was submitted, and once again.


def test_delete_takes_ended_jobs_only(client: TestClient, work: Work) -> None:
    job_id = work.submit()
    assert client.delete(f"/jobs/{job_id}").status_code == 409
    client.post(f"/jobs/{job_id}/cancel")
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert client.get(f"/jobs/{job_id}").status_code == 404


def test_a_long_history_goes_in_short_transactions(
    client: TestClient, work: Work, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.domain.jobs.EVENTS_AT_ONCE", 10)
    job_id, other = work.submit(), work.submit()
    with resources.database.write() as session:
        job = jobs.get(session, job_id, lock=True)
        for number in range(45):
            events.append(session, job, "note", {"number": number})
    assert client.delete(f"/jobs/{job_id}").status_code == 409
    with work.look() as session:
        assert len(events.after(session, job_id)) == 46
    client.post(f"/jobs/{job_id}/cancel")
    forgotten: list[int] = []

    def seen(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("DELETE FROM job_event"):
            forgotten.append(cursor.rowcount)

    listen(Engine, "after_cursor_execute", seen)
    try:
        assert client.delete(f"/jobs/{job_id}").status_code == 204
    finally:
        remove(Engine, "after_cursor_execute", seen)
    assert sum(forgotten) == 47
    assert max(forgotten) <= 10
    with work.look() as session:
        assert not events.after(session, job_id)
        assert events.after(session, other)


def test_nobody_forgets_the_history_of_somebody_elses_job(work: Work, resources: Resources) -> None:
    job_id = work.submit()
    with resources.database.write() as session:
        jobs.cancel(session, job_id)
    with (
        pytest.raises(JobNotFound),
        resources.database.write(Caller("anna", frozenset({"train"}))) as session,
    ):
        jobs.forget_events(session, job_id)


@pytest.mark.parametrize("path", ["", "/events", "/metrics", "/logs"])
def test_a_missing_job_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/jobs/{MISSING}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert client.post(f"/jobs/{MISSING}/cancel").status_code == 404
    assert client.delete(f"/jobs/{MISSING}").status_code == 404


def test_logs_are_text(client: TestClient, work: Work, resources: Resources) -> None:
    job_id = work.submit()
    assert client.get(f"/jobs/{job_id}/logs").text == ""
    resources.storage.put_bytes(f"logs/{job_id}.txt", "ganz schön\n".encode())
    answer = client.get(f"/jobs/{job_id}/logs")
    assert answer.text == "ganz schön\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_events_are_paged_by_number(client: TestClient, work: Work) -> None:
    work.submit()
    job = work.claim()
    work.do(leases.record, job, [{"kind": "note", "code": "x", "n": n} for n in range(5)])
    path = f"/jobs/{job[0]}/events"
    first = client.get(f"{path}?limit=3")
    page = first.json()
    assert [event["seq"] for event in page["data"]] == [1, 2, 3]
    assert page["has_more"]
    assert first.headers["Link"] == f'<{path}?limit=3&after=3>; rel="next"'
    rest = client.get(f"{path}?after={page['last_id']}").json()
    assert [event["seq"] for event in rest["data"]] == [4, 5, 6, 7]
    assert not rest["has_more"]
    assert rest["data"][-1]["data"] == {"code": "x", "n": 4}


class TestStream:
    def test_a_finished_job_is_replayed(self, client: TestClient, work: Work) -> None:
        work.submit()
        job = work.claim()
        work.do(leases.succeed, job, {})
        answer = client.get(f"/jobs/{job[0]}/events", headers={"Accept": "text/event-stream"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert [line for line in answer.text.splitlines() if line.startswith(("id", "event"))] == [
            "event: state", "id: 1", "event: state", "id: 2", "event: state", "id: 3",
        ]  # fmt: skip

    def test_what_was_seen_is_not_replayed(self, client: TestClient, work: Work) -> None:
        work.submit()
        job = work.claim()
        work.do(leases.succeed, job, {})
        headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
        text = client.get(f"/jobs/{job[0]}/events", headers=headers).text
        assert "id: 3" in text
        assert "id: 2" not in text

    def test_a_wrong_last_event_id_is_refused(self, client: TestClient, work: Work) -> None:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": "x"}
        answer = client.get(f"/jobs/{work.submit()}/events", headers=headers)
        assert answer.status_code == 400


def test_a_poll_waits_for_no_upload_and_no_prediction(client: TestClient, work: Work) -> None:
    """All threads that requests share are taken, as by bodies that are being written to a disk."""
    job = work.submit()
    assert client.portal is not None
    limiter = client.portal.call(current_default_thread_limiter)
    takers = [object() for _ in range(int(limiter.total_tokens - limiter.borrowed_tokens))]
    for taker in takers:
        client.portal.call(limiter.acquire_on_behalf_of_nowait, taker)
    try:
        assert limiter.available_tokens == 0
        assert client.get(f"/jobs/{job}").json()["state"] == "queued"
        assert client.get(f"/jobs/{MISSING}").status_code == 404
        assert client.get("/jobs").json()["data"][0]["id"] == job
        assert client.get(f"/jobs/{job}/events").json()["data"][0]["data"]["state"] == "queued"
        for path in ("/datasets", "/models", "/queue", "/workers", "/usage", "/audit"):
            assert client.get(path).status_code == 200, path
    finally:
        for taker in takers:
            client.portal.call(limiter.release_on_behalf_of, taker)
