"""Webhooks and their outbox: a delivery is recorded in the transaction of its event.

The deliveries of a webhook are sent one after the other, the oldest first. A worker that sends for
a webhook has claimed it for a while, so no two workers send for one at once; a worker that dies is
followed by another one, and the receiver may get a delivery twice, under the same `webhook-id`.
"""

import base64
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, event, select, true, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core.store.db import db_now
from core.store.pagination import page_of
from core.store.row_access import EVERYONE, OwnedSession
from core.store.tables import Webhook, WebhookDelivery
from topwork.errors import TooManyWebhooks, WebhookNotFound
from topwork.kinds import DeliveryState, WebhookEvent

MOST = 20
"""Webhooks of one owner."""
CLAIM_SECONDS = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
GIVE_UP_AFTER = 3 * 24 * 3600.0
KEPT_SECONDS = 30 * 24 * 3600.0
GONE = 410
TOLD = "told"  # In a session: what is to be told when it commits.


def create(session: Session, *, url: str, events: list[WebhookEvent]) -> Webhook:
    """Add a webhook of the session's caller, with a secret of 256 random bits.

    Raises:
        TooManyWebhooks: The owner has 20.
    """
    row = Webhook(
        url=url,
        events=sorted({str(event) for event in events}),
        secret=f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
    )
    session.add(row)
    session.flush()
    owned = select(Webhook.id).where(Webhook.owner == row.owner)
    if len(session.scalars(owned.limit(MOST + 1)).all()) > MOST:
        raise TooManyWebhooks(f"you have {MOST} webhooks already")
    session.refresh(row)
    return row


def get(session: Session, webhook_id: str, *, lock: bool = False) -> Webhook:
    """Return a webhook, or raise WebhookNotFound."""
    row = session.get(Webhook, webhook_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise WebhookNotFound(f"there is no webhook {webhook_id!r}")
    return row


def page(
    session: Session, *, limit: int = 20, after: str | None = None, order: str = "desc"
) -> tuple[list[Webhook], bool]:
    """Return up to `limit` webhooks beyond the cursor and whether there are more."""
    return page_of(session, select(Webhook), Webhook.id, limit=limit, after=after, order=order)


def deliveries(
    session: Session,
    webhook_id: str,
    *,
    limit: int = 20,
    after: int | None = None,
    order: str = "desc",
) -> tuple[list[WebhookDelivery], bool]:
    """Return up to `limit` deliveries of a webhook beyond the cursor and whether there are more."""
    get(session, webhook_id)
    wanted = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    return page_of(session, wanted, WebhookDelivery.seq, limit=limit, after=after, order=order)


def delete(session: Session, webhook_id: str) -> None:
    """Remove a webhook with its deliveries; what was not sent yet is not sent."""
    row = get(session, webhook_id, lock=True)
    of_it = WebhookDelivery.webhook_id == webhook_id
    session.execute(sql_delete(WebhookDelivery).where(of_it))
    session.delete(row)


def tell(session: Session, owner: str, what: WebhookEvent, data: dict[str, Any]) -> None:
    """Have an event recorded with this transaction for each webhook of an owner that asks for it.

    It is written down as the last act of the transaction: whoever ends a job goes on to lock other
    rows, and a lock on a webhook before these could stand against somebody who holds them.
    """
    session.info.setdefault(TOLD, []).append((owner, what, data))


@event.listens_for(OwnedSession, "before_commit")
def _record(session: Session) -> None:
    told: list[tuple[str, WebhookEvent, dict[str, Any]]] = session.info.pop(TOLD, [])
    for owner in sorted({owner for owner, _, _ in told}):
        listening = select(Webhook).where(Webhook.owner == owner, Webhook.enabled)
        held = listening.order_by(Webhook.id).with_for_update()
        as_they_are = {"populate_existing": True, **EVERYONE}
        for row in session.scalars(held, execution_options=as_they_are).all():
            for one, what, data in told:
                if one == owner and what in row.events:
                    _add(session, row, what, data)


def _add(session: Session, row: Webhook, what: WebhookEvent, data: dict[str, Any]) -> None:
    row.last_seq += 1
    now = datetime.fromtimestamp(session.scalar(select(db_now())) or 0, UTC)
    happened = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    session.add(
        WebhookDelivery(
            webhook_id=row.id,
            seq=row.last_seq,
            owner=row.owner,
            event=what,
            payload={"type": what, "timestamp": happened, "data": data},
        )
    )


def is_due(session: Session) -> bool:
    """Tell, without the lock of a write, whether something is to be sent now."""
    return session.scalars(_due().limit(1)).first() is not None


def _due() -> Select[Webhook]:
    waits = select(WebhookDelivery.seq).where(
        WebhookDelivery.webhook_id == Webhook.id, WebhookDelivery.state == DeliveryState.PENDING
    )
    return select(Webhook).where(Webhook.enabled, Webhook.not_before <= db_now(), waits.exists())


def claim(session: Session) -> tuple[Webhook, WebhookDelivery] | None:
    """Return a webhook with the delivery that is due, for this worker alone for two minutes."""
    oldest = _due().order_by(Webhook.not_before).limit(1).with_for_update(skip_locked=True)
    row = session.scalars(oldest).one_or_none()
    if row is None:
        return None
    # A claim is a pause: whoever dies with it leaves the webhook to the others when it is over.
    row.not_before = db_now() + CLAIM_SECONDS
    pending = select(WebhookDelivery).where(
        WebhookDelivery.webhook_id == row.id, WebhookDelivery.state == DeliveryState.PENDING
    )
    delivery = session.scalars(pending.order_by(WebhookDelivery.seq).limit(1)).one()
    delivery.attempts += 1
    session.flush()
    session.refresh(row)
    return row, delivery


def settle(
    session: Session, webhook_id: str, seq: int, *, status: int | None, error: str | None
) -> None:
    """Write down how a try has ended, and when the webhook is tried again.

    Harmless where the webhook was deleted meanwhile.
    """
    row = session.get(Webhook, webhook_id, with_for_update=True, populate_existing=True)
    delivery = session.get(WebhookDelivery, (webhook_id, seq), populate_existing=True)
    if row is None or delivery is None or delivery.state != DeliveryState.PENDING:
        return
    delivery.status, delivery.error = status, error
    now = float(session.execute(select(db_now())).scalar_one())
    if error is None:
        delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, now
        row.failures, row.not_before = 0, now
        return
    row.enabled = status != GONE
    _give_up(session, WebhookDelivery.webhook_id == webhook_id)
    row.not_before = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(row.failures, 10))
    row.failures += 1


def _give_up(session: Session, of: ColumnElement[bool]) -> None:
    """Let go of what has been waiting for three days, whether or not it was ever tried."""
    waits = of & (WebhookDelivery.state == DeliveryState.PENDING)
    old = waits & (WebhookDelivery.created_at < db_now() - GIVE_UP_AFTER)
    session.execute(update(WebhookDelivery).where(old).values(state=DeliveryState.FAILED))


def prune(session: Session) -> None:
    """Give up deliveries that have waited for three days; forget those settled a month ago."""
    _give_up(session, true())
    old = WebhookDelivery.created_at < db_now() - KEPT_SECONDS
    settled = WebhookDelivery.state != DeliveryState.PENDING
    session.execute(sql_delete(WebhookDelivery).where(old, settled))


def revive(session: Session, webhook_id: str) -> Webhook:
    """Try a webhook again at once, one that was switched off as well."""
    get(session, webhook_id, lock=True)
    again = update(Webhook).where(Webhook.id == webhook_id)
    session.execute(again.values(enabled=True, failures=0, not_before=db_now()))
    return get(session, webhook_id, lock=True)
