"""Couriers: threads of a worker that send deliveries of webhooks, the oldest of each first."""

import threading

import structlog

from core.domain import webhooks
from core.store.resources import Resources
from core.store.tables import Webhook, WebhookDelivery
from worker.webhook_request import send

AT_ONCE = 4
"""Couriers of a worker: receivers that may be slow without keeping the others waiting."""
log = structlog.get_logger()


class Courier(threading.Thread):
    """Looks for what is due every `sweep_seconds`, until the worker drains.

    Nobody waits for it when the worker leaves: a receiver may take long to answer, and what it has
    not acknowledged is sent again by another worker.

    Args:
        resources: Open handles.
        stop: Set when the worker drains.
    """

    def __init__(self, resources: Resources, stop: threading.Event) -> None:
        super().__init__(name="courier", daemon=True)
        self._resources, self._stop_asked = resources, stop

    def run(self) -> None:
        """Send what is due."""
        while not self._stop_asked.is_set():
            try:
                self.send_due()
            except Exception:
                # The database may be away; what is due stays so.
                log.exception("courier.failed")
            self._stop_asked.wait(self._resources.settings.sweep_seconds)

    def send_due(self) -> None:
        """Send until nothing is due that no other courier has claimed."""
        while not self._stop_asked.is_set() and self.send_next():
            pass

    def send_next(self) -> bool:
        """Send one delivery; return whether one was due."""
        database = self._resources.database
        with database.read() as session:
            if not webhooks.is_due(session):
                return False
        with database.write() as session:
            claimed: tuple[Webhook, WebhookDelivery] | None = webhooks.claim(session)
        if claimed is None:
            return False
        webhook, delivery = claimed
        private = self._resources.settings.webhooks_to_private_addresses
        outcome = send(webhook, delivery, private=private)
        with database.write() as session:
            webhooks.settle(session, webhook.id, delivery.seq, **outcome)
        log.info("webhook.sent", webhook=webhook.id, delivery=delivery.seq, **outcome)
        return True
