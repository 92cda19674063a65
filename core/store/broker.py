"""Celery as a doorbell: a message says "there is work", never which; the database says the rest.

Losing, doubling or delaying a message changes latency only. The reasons for these settings:
`docs/decisions/0001-a-job-is-a-database-row-a-message-is-only-a-doorbell.md`.
"""

from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

WORK = "topwork.work"
QUEUE = "topwork"
MOST_WAITING = 64
log = structlog.get_logger()


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application that api and worker share."""
    celery = Celery("topwork", broker=broker_url or "memory://", set_as_current=False)
    # A message that is taken is gone. Celery breaks down on a task without an id; were the message
    # given back at the new connection, every worker would break down on it again, for ever.
    queue = {"exchange": QUEUE, "binding_key": QUEUE, "no_ack": True}
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE,
        task_queues={QUEUE: queue},
        task_ignore_result=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 30,
            "socket_connect_timeout": 1,
            "socket_keepalive": not broker_url.startswith("redis+socket"),
            "health_check_interval": 25,
            "max_retries": 0,
        },
    )
    return celery


def ring(celery: Celery) -> None:
    """Tell an idle worker to look for a job; a broker that is away costs latency only.

    Where MOST_WAITING rings have not been heard, one more changes nothing: a worker that hears any
    goes on until no job is left. Without that bound a list that nobody empties, because every slot
    is busy, would grow with each job that is paused and resumed.
    """
    options: dict[str, Any] = {"queue": QUEUE, "ignore_result": True, "retry": False}
    try:
        with celery.producer_or_acquire() as producer:
            if _waiting(producer) < MOST_WAITING:
                celery.send_task(WORK, producer=producer, **options)
    except (OperationalError, OSError) as error:
        log.warning("doorbell.unheard", error=str(error))


def _waiting(producer: Producer) -> int:
    """Return how many rings the broker holds, about; none where it has no such list."""
    connection = producer.connection
    try:
        return int(producer.channel.queue_declare(QUEUE, passive=True).message_count)
    except connection.channel_errors:
        return 0
    except connection.connection_errors as error:
        raise OperationalError(str(error)) from error
