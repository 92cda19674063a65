"""Courier: the threads of a worker that send deliveries of webhooks, the oldest of each first."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from core.domain import webhooks
from core.store.resources import Resources
from core.store.tables import Webhook, WebhookDelivery
from worker.webhook_request import send

AT_ONCE = 4
"""Receivers that may be slow at the same time without keeping the others waiting."""
log = structlog.get_logger()


class Courier(threading.Thread):
    """Looks for what is due every `sweep_seconds`, until the worker drains.

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
        """Send until nothing is due, several webhooks at once."""
        with ThreadPoolExecutor(AT_ONCE, "webhook") as threads:
            under_way: list[Future[bool]] = [threads.submit(self._send_all) for _ in range(AT_ONCE)]
        for one in under_way:
            one.result()

    def _send_all(self) -> bool:
        while not self._stop_asked.is_set() and self.send_next():
            pass
        return True

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
