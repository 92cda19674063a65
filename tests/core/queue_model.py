"""The queue as users and workers may use it, in any order, against a model in plain Python."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy import delete, select, update

from core.domain import jobs, leases
from core.ops import integrity_check
from core.store.db import Database
from core.store.tables import Job, JobEvent
from core.system.settings import Settings
from topwork.errors import StateConflict
from topwork.kinds import Priority

LEASE = 600.0  # Nothing expires but where a rule says so.
PRIORITY = st.sampled_from(["high", "normal", "low"])
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Known:
    """What the model says about one job."""

    priority: str
    state: str = "queued"
    fence: int = 0
    expired: bool = False
    cancelling: bool = False
    pausing: bool = False
    step: int = 0
    trained: bool = False
    progressed: bool = False
    stalls: int = 0
    losses: int = 0
    shortages: int = 0
    lacks: bool = False
    rests: bool = False  # Nobody may claim it yet.
    moves: int = 0  # What has happened to it since it was submitted.

    def leave(self, state: str) -> None:
        """Stop running, or whatever else it is; a wish to pause ends with that."""
        self.state, self.pausing, self.lacks, self.rests = state, False, False, False
        self.moves += 1

    def handed_back(self) -> None:
        """Stop running because the worker does, not because of the work."""
        self.leave("cancelled" if self.cancelling else "paused" if self.pausing else "queued")


def any_in(*states: str) -> Callable[["QueueMachine"], bool]:
    """Return whether a rule has a job to be about; it may then pick a wrong one all the same."""
    return lambda self: any(job.state in states for job in self.known.values())


class QueueMachine(RuleBasedStateMachine):
    """Each rule does one thing to the database and to the model; then both must agree."""

    database: Database
    settings: Settings
    tickets = Bundle("tickets")  # (job, fence) of each claim ever made, also the lost ones.

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}
        self.seen: tuple[Job, int] | None = None  # What a worker looks at, and its moves by then.

    @initialize(target=tickets, priorities=st.lists(PRIORITY, min_size=1, max_size=3))
    def begin(self, priorities: list[str]) -> object:
        """Begin with a few jobs, one of them claimed: most rules do nothing to an empty queue."""
        with self.database.write() as session:
            session.execute(delete(JobEvent))
            session.execute(delete(Job))
        for priority in priorities:
            self.submit(priority)
        return self.claim("anna")

    def pick(self, number: int, *states: str) -> str | None:
        """Return one of the jobs that are in these states, or of all."""
        fitting = [name for name, job in self.known.items() if not states or job.state in states]
        return fitting[number % len(fitting)] if fitting else None

    @rule(priority=PRIORITY)
    def submit(self, priority: str) -> None:
        with self.database.write() as session:
            job = jobs.submit(session, kind="export", config={}, priority=priority)
        self.known[job.id] = Known(priority)

    @rule(skipped=st.integers(0, 2))
    def look(self, skipped: int) -> None:
        """A worker looks at the queue, behind the first jobs if it has no room for them."""
        queued = sorted(
            (jobs.PRIORITIES[Priority(one.priority)], name)
            for name, one in self.known.items()
            if one.state == "queued" and not one.rests
        )
        order = [name for _, name in queued]
        with self.database.read() as session:
            job = leases.best(session, besides=order[:skipped])
        assert (job and job.id) == next(iter(order[skipped:]), None)
        self.seen = (job, self.known[job.id].moves) if job else None

    @rule(target=tickets, worker=st.sampled_from(["anna", "bert"]))
    def claim_what_was_seen(self, worker: str) -> object:
        """It is taken as it was seen, or not at all, whatever has happened meanwhile."""
        if self.seen is None:
            return multiple()
        job, moves = self.seen
        mine = self.known[job.id]
        with self.database.write() as session:
            taken = leases.claim(session, job, worker, LEASE)
        unchanged = mine.moves == moves and not mine.rests
        assert (taken is not None) == (mine.state == "queued" and unchanged)
        if taken is None:
            return multiple()
        assert taken.id == job.id
        mine.leave("running")
        mine.expired = mine.progressed = False
        mine.fence += 1
        assert taken.fence == mine.fence
        return taken.id, taken.fence

    @rule(target=tickets, worker=st.sampled_from(["anna", "bert"]))
    def claim(self, worker: str) -> object:
        self.look(0)
        return self.claim_what_was_seen(worker)

    @precondition(any_in("queued"))
    @rule(number=st.integers(0, 9))
    def pass_over(self, number: int) -> None:
        """A worker has no room for a job, says so, and leaves it to others."""
        name = self.pick(number, "queued")
        if name and not (mine := self.known[name]).rests:
            with self.database.write() as session:
                leases.postpone(session, name, "disk", "too full")
            mine.moves += not mine.lacks
            mine.lacks = True

    @precondition(lambda self: any(job.rests for job in self.known.values()))
    @rule()
    def let_time_pass(self) -> None:
        """Every pause is over."""
        with self.database.write() as session:
            resting = update(Job).where(Job.not_before.is_not(None))
            session.execute(resting.values(not_before=1.0))
        for mine in self.known.values():
            mine.rests = False

    @rule(target=tickets, ticket=tickets)
    def lapse_and_take_over(self, ticket: tuple[str, int]) -> object:
        """What leaves a claim behind that is lost: its lease ends and another worker claims."""
        if not self.ours(ticket):
            return multiple()
        self.expire_job(ticket[0])
        self.reap()
        taken = self.claim("carl")
        assert not self.ours(ticket)
        for late in (self.heartbeat, self.publish, self.refuse, self.drain, self.crash, self.fill):
            late(ticket)
        self.report(ticket, 5)
        return taken

    def ours(self, ticket: tuple[str, int]) -> Known | None:
        """Return the model's job if this claim still holds it; a lapsed lease holds until swept."""
        mine = self.known.get(ticket[0])
        holds = mine is not None and mine.state == "running" and mine.fence == ticket[1]
        return mine if holds else None

    @contextmanager
    def expecting(self, problem: type[Exception], *, unless: object) -> Iterator[None]:
        if unless:
            yield
        else:
            with pytest.raises(problem):
                yield

    def worker_says(
        self, ticket: tuple[str, int], action: Callable[..., object], *words: object
    ) -> Known | None:
        """Do what a worker does under a claim: it works while the claim holds, else is refused."""
        mine = self.ours(ticket)
        with self.expecting(leases.LostLease, unless=mine), self.database.write() as session:
            action(session, *ticket, *words)
        return mine

    @rule(ticket=tickets)
    def heartbeat(self, ticket: tuple[str, int]) -> None:
        if mine := self.worker_says(ticket, leases.renew, LEASE):
            mine.expired = False

    @rule(ticket=tickets, step=st.integers(0, 5))
    def report(self, ticket: tuple[str, int], step: int) -> None:
        progress = [{"kind": "progress", "step": step}, {"kind": "phase", "phase": "training"}]
        if mine := self.worker_says(ticket, leases.record, progress):
            mine.progressed |= step > mine.step or not mine.trained
            mine.step, mine.trained = max(mine.step, step), True

    @rule(ticket=tickets)
    def publish(self, ticket: tuple[str, int]) -> None:
        if mine := self.worker_says(ticket, leases.succeed, {"fence": ticket[1]}):
            mine.leave("succeeded")

    @rule(ticket=tickets)
    def refuse(self, ticket: tuple[str, int]) -> None:
        if mine := self.worker_says(ticket, leases.fail, {"code": "x", "message": "no"}):
            mine.leave("failed")

    @rule(ticket=tickets)
    def stopped_for_user(self, ticket: tuple[str, int]) -> None:
        mine = self.ours(ticket)
        if (mine is None or mine.cancelling) and self.worker_says(ticket, leases.cancelled):
            self.known[ticket[0]].leave("cancelled")

    @rule(ticket=tickets)
    def drain(self, ticket: tuple[str, int]) -> None:
        if mine := self.worker_says(ticket, leases.release, "leaving"):
            mine.handed_back()

    @rule(ticket=tickets)
    def crash(self, ticket: tuple[str, int]) -> None:
        """The job's own process breaks off, which is held against the job."""
        if mine := self.worker_says(ticket, leases.crashed, "crash", self.settings.max_attempts):
            self.forget(mine)
            mine.stalls += not mine.progressed
            self.back(mine, failed=mine.stalls >= self.settings.max_attempts)

    @rule(ticket=tickets)
    def fill(self, ticket: tuple[str, int]) -> None:
        """The disk is full, which never fails a job."""
        if mine := self.worker_says(ticket, leases.starved, "full", LEASE):
            self.forget(mine)
            mine.shortages += not mine.progressed
            self.back(mine, failed=False)
            mine.lacks = mine.rests = mine.state == "queued"

    def forget(self, mine: Known) -> None:
        if mine.progressed:
            mine.stalls = mine.losses = mine.shortages = 0

    def back(self, mine: Known, *, failed: bool) -> None:
        if failed and not mine.cancelling:
            mine.leave("failed")
        else:
            mine.handed_back()

    @precondition(any_in("running"))
    @rule(number=st.integers(0, 9))
    def expire(self, number: int) -> None:
        if name := self.pick(number, "running"):
            self.expire_job(name)

    def expire_job(self, name: str) -> None:
        with self.database.write() as session:
            session.execute(update(Job).where(Job.id == name).values(lease_until=1.0))
        self.known[name].expired = True

    @precondition(any_in("running"))
    @rule()
    def reap(self) -> None:
        lost = [one for one in self.known.values() if one.state == "running" and one.expired]
        assert leases.sweep(self.database, self.settings) == len(lost)
        for one in lost:
            self.forget(one)
            one.losses += not one.progressed
            self.back(one, failed=one.losses >= self.settings.max_losses)
            one.lacks = one.rests = one.state == "queued" and one.losses > 1

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        if name := self.pick(number):
            mine = self.known[name]
            ended = mine.state in ("succeeded", "failed")
            with self.expecting(StateConflict, unless=not ended), self.database.write() as session:
                jobs.cancel(session, name)
            if mine.state == "running":
                mine.cancelling = True
            elif not ended:
                mine.leave("cancelled")

    @rule(number=st.integers(0, 9))
    def pause(self, number: int) -> None:
        if name := self.pick(number):
            self.pause_job(name)

    def pause_job(self, name: str) -> None:
        if mine := self.user_says(jobs.pause, name):
            if mine.state == "running":
                mine.pausing = True
            else:
                mine.leave("paused")

    @rule(ticket=tickets)
    def pause_and_hand_back(self, ticket: tuple[str, int]) -> None:
        """What a worker does with a job that is to rest: it saves a checkpoint and lets go."""
        if self.ours(ticket):
            self.pause_job(ticket[0])
            self.drain(ticket)

    @precondition(any_in("running", "paused"))
    @rule(number=st.integers(0, 9))
    def resume(self, number: int) -> None:
        if (name := self.pick(number)) and (mine := self.user_says(jobs.resume, name)):
            if mine.state == "paused":
                mine.leave("queued")
            mine.pausing = False

    def user_says(self, action: Callable[..., object], name: str) -> Known | None:
        """Do what works until a job has ended and is refused from then on."""
        may = self.known[name].state not in ENDED
        with self.expecting(StateConflict, unless=may), self.database.write() as session:
            action(session, name)
        return self.known[name] if may else None

    @precondition(any_in("failed", "cancelled"))
    @rule(number=st.integers(0, 9))
    def retry(self, number: int) -> None:
        if name := self.pick(number):
            mine = self.known[name]
            may = mine.state in ("failed", "cancelled")
            with self.expecting(StateConflict, unless=may), self.database.write() as session:
                jobs.retry(session, name)
            if may:
                mine.leave("queued")
                mine.stalls = mine.losses = mine.shortages = 0
                mine.cancelling = False

    @invariant()
    def both_agree(self) -> None:
        with self.database.read() as session:
            rows = list(session.scalars(select(Job)))
        assert {row.id for row in rows} == set(self.known)
        for row in rows:
            mine = self.known[row.id]
            found = (row.state, row.fence, row.attempt, row.last_step)
            assert found == (mine.state, mine.fence, mine.fence, mine.step)
            counts = (row.stalls, row.losses, row.shortages)
            assert counts == (mine.stalls, mine.losses, mine.shortages)
            assert (row.cancel_requested_at is not None) == mine.cancelling
            assert (row.pause_requested_at is not None) == mine.pausing
            assert (row.worker is None) == (row.lease_until is None) == (row.state != "running")
            assert (row.finished_at is not None) == (row.state in ENDED)
            assert (row.lacks is not None) == mine.lacks
            assert row.state != "succeeded" or row.result == {"fence": row.fence}

    def teardown(self) -> None:
        with self.database.read() as session:
            events = list(session.scalars(select(JobEvent).order_by(JobEvent.seq)))
            for job in session.scalars(select(Job)):
                mine = [event for event in events if event.job_id == job.id]
                assert not list(integrity_check._history(job, mine))
                assert not list(integrity_check._outcome(session, job))
