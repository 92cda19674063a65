"""A child's reports reach the row and the history: whole lines, once, in order."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session

from core.domain import jobs, leases
from core.domain.events import after
from core.store.resources import Resources
from tests.claims import claim_best
from worker.event_relay import MOST_BYTES, Relay, Tail


@pytest.fixture
def job_id(resources: Resources) -> str:
    with resources.database.write() as session:
        jobs.submit(session, kind="finetune", config={})
    with resources.database.write() as session:
        job = claim_best(session, "me", 30)
    assert job is not None
    return job.id


def relay(resources: Resources, job_id: str, folder: Path, fence: int = 1) -> Relay:
    return Relay(resources.database, job_id, fence, folder)


def say(folder: Path, *reports: object, name: str = "events.jsonl") -> None:
    with (folder / name).open("a") as file:
        file.writelines(json.dumps(report) + "\n" for report in reports)


def told(resources: Resources, job_id: str) -> list[tuple[str, object]]:
    with resources.database.read() as session:
        events = [event for event in after(session, job_id) if event.kind != "state"]
    return [(event.kind, event.data.get("epoch", event.data.get("phase"))) for event in events]


def test_only_whole_lines_count(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_bytes(b'{"a": 1}\n{"a"')
    assert tail.read() == [{"a": 1}]
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b': NaN}\n\nnot json\n[1]\n\xff\n{"a": 3}\n')
    assert tail.read() == [{"a": None}, {"a": 3}]


def test_a_line_that_is_too_long_hides_nothing_after_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (2 * MOST_BYTES + 5) + b'\n{"kind": "note"}\n')
    tail = Tail(path)
    heard = [tail.read() for _ in range(4)]
    assert heard == [[], [], [{"kind": "note"}], []]


def test_progress_lands_on_the_row_and_the_rest_in_the_history(
    resources: Resources, job_id: str, tmp_path: Path
) -> None:
    line = relay(resources, job_id, tmp_path)
    say(tmp_path, {"kind": "phase", "phase": "training"}, {"kind": "plan", "plan": {"x": 1}})
    say(tmp_path, {"kind": "progress", "progress": 0.5, "step": 7, "eta": 3.0})
    line.pump()
    say(tmp_path, {"kind": "epoch", "epoch": 1})
    line.flush(lambda: None)
    with resources.database.read() as session:
        row = jobs.get(session, job_id)
    assert (row.phase, row.plan, row.progress, row.last_step, row.eta) == (
        "training",
        {"x": 1},
        0.5,
        7,
        3.0,
    )
    assert told(resources, job_id) == [("phase", "training"), ("plan", None), ("epoch", 1)]


def test_an_epoch_enters_the_history_once(
    resources: Resources, job_id: str, tmp_path: Path
) -> None:
    epochs = [{"kind": "epoch", "epoch": number} for number in range(1, 5)]
    first = tmp_path / "1"
    first.mkdir()
    say(first, *epochs[:1])
    relay(resources, job_id, first).pump()
    second = tmp_path / "2"
    second.mkdir()
    # The worker died before it passed on epoch 2; epoch 3 is told by both attempts.
    say(second, {"kind": "note"}, *epochs[:3], name="earlier.jsonl")
    say(second, *epochs[2:])
    relay(resources, job_id, second).flush(lambda: None)
    assert told(resources, job_id) == [("epoch", number) for number in range(1, 5)]


def test_an_epoch_whose_commit_was_not_answered_is_told_once(
    resources: Resources, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, answers = resources.database.write, iter([False])

    @contextlib.contextmanager
    def deaf() -> Iterator[Session]:
        with write() as session:
            yield session
        if not next(answers, True):
            raise OperationalError("COMMIT", {}, Exception("no answer"))

    line = relay(resources, job_id, tmp_path)
    monkeypatch.setattr(resources.database, "write", deaf)
    say(tmp_path, {"kind": "epoch", "epoch": 1})
    line.pump()
    say(tmp_path, {"kind": "epoch", "epoch": 2})
    line.flush(lambda: None)
    assert told(resources, job_id) == [("epoch", 1), ("epoch", 2)]


def test_a_phase_is_not_repeated(resources: Resources, job_id: str, tmp_path: Path) -> None:
    line = relay(resources, job_id, tmp_path)
    say(tmp_path, {"kind": "phase", "phase": "publishing"})
    line.pump()
    line.enter("publishing")
    assert told(resources, job_id) == [("phase", "publishing")]


def test_a_lost_job_takes_no_reports(resources: Resources, job_id: str, tmp_path: Path) -> None:
    say(tmp_path, {"kind": "epoch", "epoch": 1})
    with pytest.raises(leases.LostLease):
        relay(resources, job_id, tmp_path, fence=0).pump()
    assert told(resources, job_id) == []


def test_an_event_that_no_database_takes_ends_the_attempt(
    resources: Resources, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise DataError("", {}, Exception("no such character"))

    monkeypatch.setattr(leases, "record", refuse)
    say(tmp_path, {"kind": "note", "message": "\0"})
    with pytest.raises(DataError):
        relay(resources, job_id, tmp_path).pump()
