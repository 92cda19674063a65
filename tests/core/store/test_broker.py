"""The doorbell on a real broker: it rings, and it stops where nobody listens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from core.store.broker import MOST_WAITING, QUEUE, make_celery, ring

NUMBER = 15  # A number of the broker's own that no bench of this process is likely to have.


@pytest.fixture
def celery(valkey: str) -> Iterator[Celery]:
    with make_celery(f"{valkey.rpartition('=')[0]}={NUMBER}") as made:
        yield made


@pytest.fixture
def server(valkey: str) -> Iterator[Redis]:
    """The broker as its own client sees it."""
    place = valkey.partition("?")[0].replace("redis+socket", "unix")
    with Redis.from_url(place, db=NUMBER) as client:
        client.flushdb()
        yield client
        client.flushdb()


def test_the_first_ring_is_heard(celery: Celery, server: Redis) -> None:
    ring(celery)
    assert server.llen(QUEUE) == 1


def test_rings_that_nobody_hears_do_not_pile_up(celery: Celery, server: Redis) -> None:
    for _ in range(MOST_WAITING + 20):
        ring(celery)
    assert server.llen(QUEUE) == MOST_WAITING
    server.lpop(QUEUE)
    ring(celery)
    assert server.llen(QUEUE) == MOST_WAITING


def test_a_broker_that_is_away_costs_no_error(tmp_path: Path) -> None:
    with make_celery(f"redis+socket://{tmp_path}/none?virtual_host=0") as celery:
        ring(celery)
