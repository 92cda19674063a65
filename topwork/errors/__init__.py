"""Every error a user can meet: one tree, the class docstring is the message.

TopworkError
+-- BadRequest 400 ......... MalformedRequest, ArchiveUnsafe, ArchiveUnreadable
+-- Unauthorized 401, Forbidden 403, QuotaExceeded 403
+-- NotFound 404 ........... JobNotFound, DatasetNotFound, ModelNotFound, KeyNotFound, ...
+-- MethodNotAllowed 405, RequestTimeout 408, PreconditionFailed 412
+-- Conflict 409 ........... StateConflict, NameTaken, DatasetInUse, DatasetNotReady, ...
+-- TooLarge 413, UnsupportedMedia 415, UploadLocked 423, ChecksumMismatch 460 (of tus)
+-- Unprocessable 422 ...... InvalidField, ArchitectureUnknown, DatasetInvalid, TooFewClasses, ...
+-- TooManyRequests 429 .... TooManyRequests, TooManyFailures, QueueFull, TooManyUploads
+-- Unavailable 503 ........ PredictorUnavailable, PredictorBusy; DiskFull 507

The same `{code, message, param, hint}` is the body of a problem+json answer, of `job.error` and
of `RUN_DIR/error.json` (RFC 9457 for the HTTP form); `from_dict` is the way back.
"""

from topwork.errors.client import *
from topwork.errors.data import *
from topwork.errors.error import ServiceError as ServiceError
from topwork.errors.error import TopworkError as TopworkError
from topwork.errors.error import from_dict as from_dict
from topwork.errors.jobs import *
from topwork.errors.models import *
from topwork.errors.requests import *
from topwork.errors.service import *
from topwork.errors.webhooks import *
