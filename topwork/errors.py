"""Every error a user can meet: one tree, the class docstring is the message.

TopworkError
+-- BadRequest 400 ......... MalformedRequest, ArchiveUnsafe, LayoutAmbiguous
+-- Unauthorized 401, Forbidden 403, QuotaExceeded 403
+-- NotFound 404 ........... JobNotFound, DatasetNotFound, ModelNotFound, KeyNotFound, ...
+-- MethodNotAllowed 405, RequestTimeout 408, PreconditionFailed 412
+-- Conflict 409 ........... StateConflict, NameTaken, DatasetInUse, DatasetNotReady, ...
+-- TooLarge 413, UnsupportedMedia 415, UploadLocked 423, ChecksumMismatch 460 (of tus)
+-- Unprocessable 422 ...... InvalidField, ArchitectureUnknown, DatasetInvalid, TooFewClasses, ...
+-- TooManyRequests 429 .... TooManyRequests, TooManyFailures, QueueFull, TooManyUploads
+-- Unavailable 503 ........ PredictorUnavailable, PredictorBusy; DiskFull 507

The same `{code, message, param, hint}` is the body of a problem+json answer, of `job.error` and
of `RUN_DIR/error.json` (RFC 9457 for the HTTP form).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class TopworkError(Exception):
    """Something went wrong that a user can act on."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    hint: str | None = None
    # `{param, code, message, hint}` of each thing where several are wrong at once.
    errors: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self, message: str | None = None, *, param: str | None = None, hint: str | None = None
    ) -> None:
        """Use the class docstring's first line where no message is given."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.hint = hint or type(self).hint
        super().__init__(self.message)

    def to_dict(self) -> dict[str, Any]:
        """Return the stable JSON form `{code, message, param, hint}`."""
        return {"code": self.code, "message": self.message, "param": self.param, "hint": self.hint}


class MalformedRequest(TopworkError):
    """The request could not be read."""

    status, code = 400, "malformed_request"


class ArchiveUnsafe(TopworkError):
    """The archive contains entries that could harm this machine."""

    status, code = 400, "archive_unsafe"


class ArchiveUnreadable(TopworkError):
    """The upload is not a readable zip or tar archive."""

    status, code = 400, "archive_unreadable"
    hint = "Send a .zip, .tar or .tar.gz of one folder per class."


class ArchiveTooLarge(TopworkError):
    """The archive is larger than this service accepts."""

    status, code = 413, "archive_too_large"
    hint = "Send fewer or smaller images, or raise a limit: docs/settings.md lists them."


class Unauthorized(TopworkError):
    """The request carries no valid key."""

    status, code = 401, "unauthorized"
    hint = "Send the header `Authorization: Bearer KEY`."


class KeyRequired(TopworkError):
    """A service that other machines can reach needs a key."""

    status, code = 422, "key_required"
    hint = "Set TOPWORK_ADMIN_KEY, or listen on 127.0.0.1."


class Forbidden(TopworkError):
    """The request is not allowed here."""

    status, code = 403, "forbidden"


class QuotaExceeded(TopworkError):
    """You may not store so much."""

    status, code = 403, "quota_exceeded"
    hint = "Delete what is not needed any more; GET /usage says what there is."


class NotFound(TopworkError):
    """There is nothing at this address."""

    status, code = 404, "not_found"


class KeyNotFound(NotFound):
    """There is no such key."""

    code = "key_not_found"


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class DatasetNotFound(NotFound):
    """There is no such dataset."""

    code = "dataset_not_found"


class UploadNotFound(NotFound):
    """There is no such upload, or it was used or has expired."""

    code = "upload_not_found"


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class ArchitectureNotFound(NotFound):
    """There is no such architecture."""

    code = "architecture_not_found"


class MethodNotAllowed(TopworkError):
    """The address does not take this method."""

    status, code = 405, "method_not_allowed"
    hint = "The header Allow lists the methods it takes."


class RequestTimeout(TopworkError):
    """The request body arrived too slowly."""

    status, code = 408, "request_timeout"


class PreconditionFailed(TopworkError):
    """The object has changed since it was read."""

    status, code = 412, "precondition_failed"
    hint = "Read it again and send its new ETag in If-Match."


class StateConflict(TopworkError):
    """The job's state does not allow this."""

    status, code = 409, "state_conflict"


class UploadOffsetMismatch(TopworkError):
    """The upload has another offset than the request says."""

    status, code = 409, "upload_offset_mismatch"
    hint = "Ask for the offset with HEAD and go on from there."


class UploadIncomplete(TopworkError):
    """The upload has not arrived completely."""

    status, code = 409, "upload_incomplete"
    hint = "Send the rest with PATCH; HEAD says how much has arrived."


class UploadLocked(TopworkError):
    """Another request is writing to this upload."""

    status, code = 423, "upload_locked"
    hint = "Try again in a moment: the other request may be one that has lost its connection."


class ChecksumMismatch(TopworkError):
    """What arrived does not have the checksum that was announced; it was not kept."""

    status, code = 460, "checksum_mismatch"
    hint = "Send the piece again."


class NameTaken(TopworkError):
    """The name belongs to somebody else."""

    status, code = 409, "name_taken"
    hint = "Choose another name for the model."


class DatasetInUse(TopworkError):
    """A job or a model still refers to this dataset."""

    status, code = 409, "dataset_in_use"


class DatasetNotReady(TopworkError):
    """The dataset has not finished ingesting."""

    status, code = 409, "dataset_not_ready"


class RequestTooLarge(TopworkError):
    """The request body is larger than this service accepts."""

    status, code = 413, "request_too_large"


class UnsupportedMedia(TopworkError):
    """The content type is not one this route reads."""

    status, code = 415, "unsupported_media_type"


class InvalidField(TopworkError):
    """A field has a value that cannot be used."""

    status, code = 422, "invalid_field"


class ArchitectureUnknown(TopworkError):
    """There is no architecture of this name."""

    status, code = 422, "architecture_unknown"


class LayoutAmbiguous(TopworkError):
    """The folder tree can be read in two ways."""

    status, code = 422, "layout_ambiguous"


class TooFewClasses(TopworkError):
    """A classifier needs images of at least two classes."""

    status, code = 422, "too_few_classes"
    hint = "Put the images of each class into a folder named after the class."


class DatasetInvalid(TopworkError):
    """No usable images were found."""

    status, code = 422, "dataset_invalid"
    hint = "Give each class a folder with its images: JPEG, PNG, WebP, BMP, GIF or TIFF."


class ImageUndecodable(TopworkError):
    """The file is not an image that can be decoded."""

    status, code = 422, "image_undecodable"
    hint = "Send a complete JPEG, PNG, WebP, BMP, GIF or TIFF file."


class ImageTooLarge(TopworkError):
    """The image has more pixels than this service accepts."""

    status, code = 422, "image_too_large"


class WeightsUnavailable(TopworkError):
    """Pretrained weights are not on this machine and could not be downloaded."""

    status, code = 422, "weights_unavailable_offline"


class WeightsMismatch(TopworkError):
    """The weights do not belong to this architecture."""

    status, code = 422, "weights_mismatch"


class IntegrityError(TopworkError):
    """A stored file does not match its recorded hash."""

    status, code = 409, "integrity"


class AuditBroken(TopworkError):
    """The audit log is not as it was written."""

    status, code = 409, "audit_broken"
    hint = "Compare it with an earlier export."


class IdempotencyConflict(TopworkError):
    """This Idempotency-Key was used with another request."""

    status, code = 422, "idempotency_conflict"


class RequestInFlight(TopworkError):
    """A request with this Idempotency-Key is still being answered."""

    status, code = 409, "request_in_flight"


class QueueFull(TopworkError):
    """Too many jobs are waiting."""

    status, code = 429, "queue_full"
    hint = "Try again after the time in Retry-After, or cancel jobs that are no longer needed."


class TooManyUploads(TopworkError):
    """Too many uploads are open."""

    status, code = 429, "too_many_uploads"
    hint = "Use or delete those listed at GET /uploads."


class TooManyRequests(TopworkError):
    """This key or address sends more requests than it may."""

    status, code = 429, "too_many_requests"
    hint = "Wait as long as Retry-After says."

    def __init__(self, message: str | None = None, *, retry_after: int = 60) -> None:
        """Remember for how many seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class TooManyFailures(TooManyRequests):
    """Too many requests from this address carried a wrong key."""

    code = "too_many_failures"
    hint = "Wait as long as Retry-After says, and check the key."


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
    hint = "The end of its log may tell why: GET /jobs/JOB/logs or `topwork jobs logs JOB`."
