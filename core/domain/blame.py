"""Counters of crashes and losses: only what its own process did counts against a job.

Progress, a step or a phase that the job never reached before, forgets all that came before it.
Callers hold the job's row for writing.
"""

from sqlalchemy.orm import Session

from core.domain import job_states
from core.store.tables import Job
from core.system.faults import Fault, UnexpectedException
from topwork.errors import Poison, TopworkError, WorkerLost
from topwork.kinds import JobState, Lack

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0  # Seconds between attempts, doubled with each loss.


def crash(session: Session, job: Job, words: str, most: int, fault: Fault | None = None) -> None:
    """Queue a job whose own process broke off; fail it as poison after `most` times in a row."""
    _forget_what_progress_answers(job)
    job.stalls += not job.progressed
    error: TopworkError | None = _twice(job, fault)
    if error is None and job.stalls >= most:
        error = Poison(f"the job failed {job.stalls} times without progress; last: {words}")
    _settle(session, job, words, error)


def lose(session: Session, job: Job, words: str, most: int, fault: Fault | None = None) -> None:
    """Queue a job whose worker or machine failed it, later each time.

    That is no fault of the job, so it may happen often; but one that takes every worker along must
    not do so for ever: it fails after `most` times in a row. A `fault` is an exception that the
    worker met while it did the job's work.
    """
    _forget_what_progress_answers(job)
    job.losses += not job.progressed
    error: TopworkError | None = _twice(job, fault)
    if error is None and job.losses >= most:
        error = WorkerLost(f"{job.losses} attempts were lost in a row; last: {words}")
    pause = pause_after(job.losses)
    later = f"; after {job.losses} losses in a row it rests for {pause:.0f} s" if pause else ""
    _settle(session, job, f"{words}{later}", error)
    if pause:
        _rest(session, job, Lack.WORKER, pause)


def starve(session: Session, job: Job, words: str, least: float) -> None:
    """Queue a job that found the disk full, for later each time: that never counts against it.

    `least` is its shortest pause in seconds.
    """
    _forget_what_progress_answers(job)
    job.shortages += not job.progressed
    _settle(session, job, words, None)
    _rest(session, job, Lack.DISK, max(least, pause_after(job.shortages)))


def pause_after(times: int) -> float:
    """Return the seconds that a job rests after so many losses in a row; the first costs none.

    What ended the worker may take a while: a machine that starts anew, a disk that is emptied.
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (times - 2)) if times > 1 else 0.0


def _forget_what_progress_answers(job: Job) -> None:
    if job.progressed:
        job.stalls = job.losses = job.shortages = 0
        job.fault = None


def _twice(job: Job, fault: Fault | None) -> UnexpectedException | None:
    """Remember an exception; return the error that it is when the last one was the same."""
    if fault is None:
        return None
    again = fault.digest == job.fault
    job.fault = fault.digest
    return UnexpectedException.of(fault) if again else None


def _settle(session: Session, job: Job, words: str, error: TopworkError | None) -> None:
    if error is not None and job.cancel_requested_at is None:
        job_states.finish(session, job, JobState.FAILED, error=error.to_dict())
    else:
        job_states.hand_back(session, job, words)


def _rest(session: Session, job: Job, lacks: str, seconds: float) -> None:
    if job.state == JobState.QUEUED:
        job.lacks, job.not_before = lacks, job_states.now(session) + seconds
