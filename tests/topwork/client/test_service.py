"""Both clients against a scripted server: what they send, repeat, follow and raise."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.app.scripted import Answer, answer, scripted, stream
from tests.topwork.client.waited import waited
from tests.topwork.examples import EVENT, JOB, MEASURED, PREDICTION, RESULT
from topwork import Topwork
from topwork.client import sources
from topwork.client.folder_tar import FolderTar
from topwork.errors import (
    ArchitectureUnknown,
    FolderUnusable,
    JobFailed,
    LossDiverged,
    QueueFull,
    ServiceError,
    TooManyRequests,
    Unreachable,
)
from topwork.kinds import JobState

Connect = Callable[..., Topwork]
MODULES = [
    import_module(f"topwork.client.{way}.{name}")
    for way in ("asynchronous", "synchronous")
    for name in ("transport", "resumable_upload")
]


@pytest.fixture(params=[Topwork, waited], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    loop = SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread)
    for module in MODULES:
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "asyncio", loop, raising=False)
    return slept


def test_finetune_sends_a_folder_in_one_form_and_says_how_far_it_is(
    connect: Connect, folder: Path
) -> None:
    sent: list[tuple[int, int]] = []
    with scripted(answer(JOB, 202)) as server, connect(server.url, "secret") as topwork:
        job = topwork.finetune(folder, architecture="lenet", on_bytes=lambda *one: sent.append(one))
    assert job.id == "job_1"
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/finetune")
    assert asked.headers["authorization"] == "Bearer secret"
    assert int(asked.headers["content-length"]) == len(asked.body)
    assert b'name="config"\r\n\r\n{"architecture": "lenet"}' in asked.body
    assert b'name="file"; filename="pets.tar"' in asked.body
    tar = FolderTar(folder)
    assert tar.read(512) in asked.body
    assert sent[-1] == (tar.length, tar.length)


def test_finetune_sends_an_archive_as_it_is(connect: Connect, tmp_path: Path) -> None:
    archive = tmp_path / "pets.zip"
    archive.write_bytes(os.urandom(200_000))
    sent: list[tuple[int, int]] = []
    with scripted(answer(JOB, 202)) as server, connect(server.url) as topwork:
        topwork.finetune(archive, architecture="resnet18", on_bytes=lambda *one: sent.append(one))
    assert archive.read_bytes() in server.asked[0].body
    assert "authorization" not in server.asked[0].headers
    assert sent[-1] == (200_000, 200_000)


def test_a_lost_post_is_repeated_with_the_same_key_and_the_whole_body(
    connect: Connect, folder: Path
) -> None:
    with (
        scripted(Answer(cut=True), Answer(503), answer(JOB, 202)) as server,
        connect(server.url) as topwork,
    ):
        topwork.finetune(folder, architecture="lenet")
    assert len(server.asked) == 3
    assert len({one.headers["idempotency-key"] for one in server.asked}) == 1
    boundaries = [one.headers["content-type"].partition("boundary=")[2] for one in server.asked]
    bodies = {
        one.body.replace(boundary.encode(), b"")
        for one, boundary in zip(server.asked, boundaries, strict=True)
    }
    assert len(bodies) == 1


def test_a_first_try_that_is_still_being_answered_is_waited_for(
    connect: Connect, waits: list[float]
) -> None:
    busy = answer({"code": "request_in_flight"}, 409, **{"Retry-After": "2"})
    with scripted(Answer(cut=True), busy, answer(JOB)) as server, connect(server.url) as topwork:
        assert topwork.finetune(dataset="ds_1", architecture="lenet").id == "job_1"
    assert waits[-1] == 2.0


def test_retry_after_is_honoured_and_tries_are_limited(
    connect: Connect, waits: list[float]
) -> None:
    full = answer(
        {"code": "queue_full", "detail": "full", "hint": "wait"}, 429, **{"Retry-After": "7"}
    )
    with scripted(full) as server, connect(server.url) as topwork:
        with pytest.raises(QueueFull, match="full") as caught:
            topwork.finetune(dataset="ds_1", architecture="lenet")
        assert len(server.asked) == 3
    assert waits == [7.0, 7.0]
    assert caught.value.hint == "wait"


def test_a_problem_becomes_the_error_of_its_code(connect: Connect) -> None:
    problem = {
        "code": "architecture_unknown",
        "detail": "no resnet19",
        "param": "architecture",
        "hint": "Did you mean resnet18?",
        "request_id": "req_9",
        "errors": [{"param": "architecture", "message": "unknown"}],
    }
    with scripted(answer(problem, 422)) as server, connect(server.url) as topwork:
        with pytest.raises(ArchitectureUnknown, match="no resnet19") as caught:
            topwork.finetune(dataset="ds_1", architecture="resnet19")
        assert len(server.asked) == 1
    error = caught.value
    assert (error.param, error.hint, error.status) == (
        "architecture",
        "Did you mean resnet18?",
        422,
    )
    assert (error.request_id, error.errors) == ("req_9", problem["errors"])


def test_a_limit_of_requests_is_an_error_with_its_hint(connect: Connect) -> None:
    limit = answer({"code": "too_many_requests", "detail": "too many", "hint": "later"}, 429)
    with (
        scripted(limit) as server,
        connect(server.url) as topwork,
        pytest.raises(TooManyRequests, match=r"too many\. later"),
    ):
        topwork.jobs.get("job_1")


def test_what_a_newer_service_adds_is_kept(connect: Connect) -> None:
    newer = {
        **JOB,
        "state": "dreaming",
        "waiting_for": {"for": "moon", "reason": "it is day", "until": 7},
        "plan": {"epochs": {"value": 3, "reason": "given", "measured": True}},
        "colour": {"name": "blue"},
    }
    with scripted(answer(newer)) as server, connect(server.url) as topwork:
        job = topwork.jobs.get("job_1")
    assert job.state == "dreaming"
    assert not isinstance(job.state, JobState)
    assert not job.terminal
    assert job.waiting_for.until == 7
    assert job.colour == {"name": "blue"}  # type: ignore[attr-defined]  # Of tomorrow.
    assert job.to_dict() == newer


def test_known_words_are_members_of_their_enum(connect: Connect) -> None:
    with scripted(answer({**JOB, "state": "succeeded"})) as server, connect(server.url) as topwork:
        assert topwork.jobs.get("job_1").state is JobState.SUCCEEDED


def test_an_unknown_code_and_a_body_that_is_no_json_are_errors_too(connect: Connect) -> None:
    with (
        scripted(answer({"code": "of_tomorrow"}, 418), Answer(502, b"<html>")) as server,
        connect(server.url) as topwork,
    ):
        with pytest.raises(ServiceError) as first:
            topwork.jobs.get("job_1")
        with pytest.raises(ServiceError) as second:
            topwork.jobs.get("job_1")
    assert (first.value.code, first.value.status) == ("of_tomorrow", 418)
    assert (second.value.code, second.value.status) == ("http_502", 502)


@pytest.mark.parametrize(
    "reply",
    [Answer(200, b"<html>"), answer([]), answer({"status": "ok"}), Answer(), answer("no", 404)],
)
def test_another_server_at_the_address_is_an_error_too(connect: Connect, reply: Answer) -> None:
    with (
        scripted(reply) as server,
        connect(server.url) as topwork,
        pytest.raises(ServiceError),
    ):
        topwork.jobs.get("job_1")


def test_a_service_that_is_away_is_named(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with connect(url) as topwork, pytest.raises(Unreachable, match=url):
        topwork.jobs.get("job_1")


def test_lists_walk_all_pages(connect: Connect) -> None:
    first = {"data": [{**JOB, "id": "job_2"}], "has_more": True, "last_id": "job_2"}
    last = {"data": [JOB], "has_more": False, "last_id": "job_1"}
    with scripted(answer(first), answer(last)) as server, connect(server.url) as topwork:
        assert [job.id for job in topwork.jobs.list(state="queued")] == ["job_2", "job_1"]
    assert [one.path for one in server.asked] == [
        "/jobs?state=queued",
        "/jobs?state=queued&after=job_2",
    ]


def event(seq: int, kind: str) -> str:
    data = json.dumps({**EVENT, "seq": seq, "kind": kind})
    return f"id: {seq}\nevent: {kind}\ndata: {data}\n\n"


def test_a_stream_goes_on_where_it_broke_and_ends_with_the_job(connect: Connect) -> None:
    running, done = answer({**JOB, "state": "running"}), answer({**JOB, "state": "succeeded"})
    with (
        scripted(
            stream(event(1, "phase") + event(2, "epoch")),
            running,
            Answer(cut=True),
            stream(": still here\n\n" + event(3, "epoch")),
            done,
        ) as server,
        connect(server.url) as topwork,
    ):
        events = list(topwork.jobs.stream("job_1"))
    assert [one.seq for one in events] == [1, 2, 3]
    streams = [one for one in server.asked if one.path.endswith("/events")]
    assert [one.headers["last-event-id"] for one in streams] == ["0", "2", "2"]
    assert all(one.headers["accept"] == "text/event-stream" for one in streams)


def test_waiting_for_a_failed_job_raises_its_error(connect: Connect) -> None:
    failed = {
        **JOB,
        "state": "failed",
        "error": {"code": "loss_diverged", "message": "no number", "hint": "smaller"},
    }
    with (
        scripted(answer(JOB, 202), stream(event(1, "state")), answer(failed)) as server,
        connect(server.url) as topwork,
    ):
        job = topwork.finetune(dataset="ds_1", architecture="lenet")
        with pytest.raises(JobFailed, match="no number") as caught:
            job.wait()
    assert (caught.value.code, caught.value.hint) == ("loss_diverged", "smaller")
    assert isinstance(caught.value.__cause__, LossDiverged)


def test_many_images_travel_in_several_requests_and_keep_their_order(connect: Connect) -> None:
    answers = [
        answer(
            {
                **PREDICTION,
                "results": [{**RESULT, "label": f"{n}"} for n in part],
                "timing_ms": {"forward": 2},
            }
        )
        for part in (range(16), range(16, 20))
    ]
    with scripted(*answers) as server, connect(server.url) as topwork:
        prediction = topwork.predict([b"%d" % n for n in range(20)], model="pets", top_k=2)
    assert [one.label for one in prediction.results] == [f"{n}" for n in range(20)]
    assert prediction[19].label == "19"
    assert prediction.timing_ms == {"forward": 4}
    assert [one.body.count(b'name="file"') for one in server.asked] == [16, 4]
    assert b'name="top_k"\r\n\r\n2' in server.asked[0].body


def test_parts_of_an_evaluation_have_their_own_addresses(connect: Connect) -> None:
    answers = [answer(MEASURED[name]) for name in ("evaluation", "calibration", "errors")]
    with scripted(*answers) as server, connect(server.url) as topwork:
        assert topwork.models.evaluation("pets", 3).splits["val"].accuracy == 0.875
        assert topwork.models.calibration("pets", 3).calibration is None
        assert topwork.models.errors("pets", 3).splits == {"val": []}
    own = "/models/pets/versions/3"
    asked = [one.path for one in server.asked]
    assert asked == [f"{own}/evaluation", f"{own}/calibration", f"{own}/errors"]


def test_an_image_that_is_not_there_is_named(connect: Connect, tmp_path: Path) -> None:
    with connect("http://127.0.0.1:1") as topwork, pytest.raises(FolderUnusable, match=r"no\.png"):
        topwork.predict(tmp_path / "no.png")


def test_a_stream_that_is_no_stream_is_given_up_at_once(connect: Connect) -> None:
    with (
        scripted(answer({})) as server,
        connect(server.url) as topwork,
        pytest.raises(Unreachable, match="text/event-stream"),
    ):
        list(topwork.jobs.stream("job_1"))


def test_a_stream_is_given_up_after_a_minute_without_a_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 20))
    for module in MODULES:
        monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with (
        scripted(stream(event(1, "epoch")), answer(JOB), Answer(cut=True)) as server,
        connect(server.url) as topwork,
    ):
        events = topwork.jobs.stream("job_1")
        assert next(events).seq == 1
        with pytest.raises(Unreachable):
            next(events)
        assert 3 <= len(server.asked) <= 8


def test_a_large_folder_goes_in_pieces_and_resumes(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGE", 1000)
    monkeypatch.setattr(sources, "PIECE", 3000)
    tar = FolderTar(folder)
    whole = tar.read() + b"".join(iter(lambda: tar.read(10_000), b""))
    created = Answer(201, b"{}", {"Location": "/uploads/up_1"})
    arrived = lambda n: Answer(204, b"", {"Upload-Offset": str(n)})  # noqa: E731 - three of them.
    lost = answer({"code": "request_timeout", "status": 408}, 408)
    where = answer({}, **{"Upload-Offset": "3100"})
    script = (created, arrived(3000), lost, where, arrived(6100), arrived(len(whole)))
    with scripted(*script, answer(JOB, 202)) as server, connect(server.url) as topwork:
        topwork.finetune(folder, architecture="lenet")
    methods = [(one.method, one.path) for one in server.asked]
    assert methods == [
        ("POST", "/uploads"),
        *[("PATCH", "/uploads/up_1")] * 2,
        ("GET", "/uploads/up_1"),
        *[("PATCH", "/uploads/up_1")] * 2,
        ("POST", "/finetune"),
    ]
    assert server.asked[0].headers["upload-length"] == str(len(whole))
    sent = [one for one in server.asked if one.method == "PATCH"]
    assert [one.headers["upload-offset"] for one in sent] == ["0", "3000", "3100", "6100"]
    assert all(one.headers["upload-checksum"].startswith("sha256 ") for one in sent)
    assert sent[0].body + sent[1].body[:100] + sent[2].body + sent[3].body == whole[:9100]
    assert b'"upload":"up_1"' in server.asked[-1].body.replace(b" ", b"")


def test_a_complete_upload_is_not_given_up_when_the_service_goes_away(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGE", 1000)
    archive = tmp_path / "pets.zip"
    archive.write_bytes(bytes(2000))
    created = Answer(201, b"{}", {"Location": "/uploads/up_1"})
    script = (created, Answer(204, b"", {"Upload-Offset": "2000"}), *[Answer(cut=True)] * 7)
    with scripted(*script, answer(JOB, 202)) as server, connect(server.url) as topwork:
        assert topwork.datasets.create(archive).id == "job_1"
    last = [one for one in server.asked if one.path == "/datasets"]
    assert len(last) == 8
    assert len({one.headers["idempotency-key"] for one in last}) == 1
    assert len({one.body for one in last}) == 1
