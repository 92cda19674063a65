"""Errors of requests: malformed, not authorised, too many."""

from topwork.errors.error import TopworkError


class MalformedRequest(TopworkError):
    """The request could not be read."""

    status, code = 400, "malformed_request"


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


class RequestTooLarge(TopworkError):
    """The request body is larger than this service accepts."""

    status, code = 413, "request_too_large"


class UnsupportedMedia(TopworkError):
    """The content type is not one this route reads."""

    status, code = 415, "unsupported_media_type"


class InvalidField(TopworkError):
    """A field has a value that cannot be used."""

    status, code = 422, "invalid_field"


class IdempotencyConflict(TopworkError):
    """This Idempotency-Key was used with another request."""

    status, code = 422, "idempotency_conflict"


class RequestInFlight(TopworkError):
    """A request with this Idempotency-Key is still being answered."""

    status, code = 409, "request_in_flight"


class TooManyRequests(TopworkError):
    """This key or address sends more requests than it may."""

    status, code = 429, "too_many_requests"
    hint = "Wait as long as Retry-After says."
    retry_after = 60


class TooManyFailures(TooManyRequests):
    """Too many requests from this address carried a wrong key."""

    code = "too_many_failures"
    hint = "Wait as long as Retry-After says, and check the key."
