"""Errors of webhooks and their addresses."""

from topwork.errors.error import TopworkError
from topwork.errors.requests import NotFound


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


class TooManyWebhooks(TopworkError):
    """You may not have so many webhooks."""

    status, code = 409, "too_many_webhooks"
    hint = "Delete one that is not needed any more."


class AddressRefused(TopworkError):
    """The address is not one of the internet."""

    status, code = 422, "address_refused"
    hint = "Use a public address, or let the operator set TOPWORK_WEBHOOKS_TO_PRIVATE_ADDRESSES."


class AddressUnknown(TopworkError):
    """Nothing is known under this name."""

    status, code = 422, "address_unknown"
    hint = "Check the host of the URL; this machine has to be able to look it up."
