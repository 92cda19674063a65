"""Errors of the service, its disk or its records."""

from topwork.errors.error import TopworkError


class Unavailable(TopworkError):
    """A part of the service that this request needs is away."""

    status, code = 503, "unavailable"
    hint = "Try again after the time in Retry-After."


class PredictorUnavailable(Unavailable):
    """The predictor is not ready."""

    code = "predictor_unavailable"


class PredictorBusy(PredictorUnavailable):
    """The predictor's queue is full."""

    code = "predict_queue_full"


class DiskFull(TopworkError):
    """There is not enough free disk space."""

    status, code = 507, "disk_full"
    hint = "Free space in the data folder; nothing that was stored is lost."


class IntegrityError(TopworkError):
    """A stored file does not match its recorded hash."""

    status, code = 409, "integrity"


class AuditBroken(TopworkError):
    """The audit log is not as it was written."""

    status, code = 409, "audit_broken"
    hint = "Compare it with an earlier export."
