"""Errors of jobs: why one cannot be started, changed or finished."""

from topwork.errors.error import TopworkError
from topwork.errors.requests import NotFound


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class StateConflict(TopworkError):
    """The job's state does not allow this."""

    status, code = 409, "state_conflict"


class QueueFull(TopworkError):
    """Too many jobs are waiting."""

    status, code = 429, "queue_full"
    hint = "Try again after the time in Retry-After, or cancel jobs that are no longer needed."


class OutOfMemory(TopworkError):
    """The job ran out of memory."""

    status, code = 422, "out_of_memory"
    hint = "Choose a smaller batch_size, image_size or architecture."


class LossDiverged(TopworkError):
    """The training loss is no longer a finite number."""

    status, code = 422, "loss_diverged"
    hint = "Choose a smaller learning_rate."


class TimeLimitReached(TopworkError):
    """The job reached its time limit before one epoch was complete."""

    status, code = 422, "time_limit_reached"


class WorkerLost(TopworkError):
    """The workers that ran this job disappeared, again and again."""

    status, code = 409, "worker_lost"
    hint = "Look for what ends them: memory, power, a full disk, their own log. Then retry the job."


class Poison(TopworkError):
    """The job's own process broke off again and again without making progress."""

    status, code = 422, "poison"
    hint = "The end of its log may tell why: GET /jobs/JOB/logs."
