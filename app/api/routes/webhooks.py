"""`/webhooks`: addresses that are told when jobs end and aliases move, and what was sent."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Response

from app.api.deps import Config, Read, Text, Write
from app.api.pagination import Direction, Limit, Listing, NumberAfter, Paging
from app.api.views.rows import shaped
from app.asgi.request_body import StrictRoute
from core.domain import webhooks
from core.system.public_address import resolve
from topwork import types
from topwork.errors import InvalidField

RESOLVERS = 2  # At once; a name server that does not answer holds a thread for half a minute.
router = APIRouter(prefix="/webhooks", tags=["Webhooks"], route_class=StrictRoute)


def _checked(body: types.WebhookRequest, settings: Config) -> types.WebhookRequest:
    """Refuse an address before it is kept; it is checked again whenever it is used."""
    try:
        parts = urlsplit(body.url)
        port = parts.port or 443
    except ValueError as error:
        raise InvalidField(f"this is no address: {error}", param="url") from error
    resolve(parts.hostname or "", port, private=settings.webhooks_to_private_addresses)
    return body


Checked = Annotated[types.WebhookRequest, Depends(_checked, max_concurrency=RESOLVERS)]


@router.get("")
async def list_webhooks(read: Read, cursor: Listing) -> types.Page[types.Webhook]:
    """List webhooks without their secrets, the newest first."""
    return await cursor.read(read, webhooks.page, lambda _, row: shaped(types.Webhook, row))


@router.post("", status_code=201)
def create_webhook(body: Checked, session: Write, response: Response) -> types.WebhookCreated:
    """Make a webhook. This answer alone shows its secret, so there is no `Idempotency-Key` here."""
    response.headers["Cache-Control"] = "no-store"
    row = webhooks.create(session, url=body.url, events=body.events)
    return shaped(types.WebhookCreated, row)


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: Text, read: Read) -> types.Webhook:
    """Return a webhook without its secret."""
    return shaped(types.Webhook, await read(webhooks.get, webhook_id))


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: Text, session: Write) -> None:
    """Forget a webhook; what was not delivered yet is not sent."""
    webhooks.delete(session, webhook_id)


@router.post("/{webhook_id}/resume")
def resume_webhook(webhook_id: Text, session: Write) -> types.Webhook:
    """Try at once what is pending, of a webhook that was switched off as well."""
    return shaped(types.Webhook, webhooks.revive(session, webhook_id))


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: Text, read: Read, pager: Paging, limit: Limit = 20, after: NumberAfter = None,
    order: Direction = "desc",
) -> types.Page[types.WebhookDelivery]:  # fmt: skip
    """List what was or is to be sent to a webhook, the newest first."""
    rows, more = await read(webhooks.deliveries, webhook_id, limit=limit, after=after, order=order)
    return pager.page([shaped(types.WebhookDelivery, row, id=row.seq) for row in rows], more)
