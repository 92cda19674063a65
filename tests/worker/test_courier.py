"""Deliveries over real HTTP: signed, in order, until they are received."""

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from select import select as select_readable

import pytest
from sqlalchemy import select, update

from core.domain import webhooks
from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.store.tables import Webhook, WebhookDelivery
from core.system.settings import Settings
from tests.app.scripted import Answer, Script, answer, scripted
from topwork.kinds import WebhookEvent
from worker import webhook_request
from worker.courier import Courier

EVENT = WebhookEvent.JOB_SUCCEEDED


@pytest.fixture(params=["sqlite", "postgres"])
def resources(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resources]:
    kind = request.param
    url = request.getfixturevalue("postgres") if kind == "postgres" else ""
    settings = Settings(
        data_dir=tmp_path / "data", database_url=url, webhooks_to_private_addresses=True
    )
    upgrade(settings.database_url)
    with open_resources(settings) as opened:
        yield opened


def hook(resources: Resources, url: str) -> Webhook:
    with resources.database.write() as session:
        return webhooks.create(session, url=url, events=[EVENT])


def tell(resources: Resources, *numbers: int) -> None:
    with resources.database.write() as session:
        for number in numbers:
            webhooks.tell(session, "default", EVENT, {"number": number})


def tell_in_vain(resources: Resources) -> None:
    with resources.database.write() as session:
        webhooks.tell(session, "default", EVENT, {"number": 1})
        raise RuntimeError


def be_patient(resources: Resources) -> None:
    """Let the pause after a failure be over."""
    with resources.database.write() as session:
        session.execute(update(Webhook).values(not_before=0.0))


def courier(resources: Resources) -> Courier:
    return Courier(resources, threading.Event())


def numbers(script: Script) -> list[int]:
    return [json.loads(one.body)["data"]["number"] for one in script.asked]


def sent(resources: Resources, row: Webhook) -> list[WebhookDelivery]:
    with resources.database.read() as session:
        return webhooks.deliveries(session, row.id, order="asc")[0]


def test_a_delivery_is_signed_by_the_specification(resources: Resources) -> None:
    with scripted(answer({})) as receiver:
        row = hook(resources, f"{receiver.url}/topwork?a=b")
        tell(resources, 1)
        courier(resources).send_due()
    (asked,) = receiver.asked
    assert (asked.method, asked.path) == ("POST", "/topwork?a=b")
    (delivery,) = sent(resources, row)
    assert asked.headers["webhook-id"] == delivery.message
    signed = f"{delivery.message}.{asked.headers['webhook-timestamp']}.".encode() + asked.body
    key = base64.b64decode(row.secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert asked.headers["webhook-signature"] == f"v1,{mac}"
    assert json.loads(asked.body)["type"] == "job.succeeded"
    assert (delivery.state, delivery.attempts, delivery.status) == ("delivered", 1, 200)


def test_a_receiver_that_was_down_gets_everything_in_order(resources: Resources) -> None:
    with scripted(answer({}, 503), Answer(cut=True), answer({})) as receiver:
        row = hook(resources, receiver.url)
        tell(resources, 1, 2)
        for _ in range(2):
            courier(resources).send_due()
            courier(resources).send_due()  # Nothing is due before the pause is over.
            be_patient(resources)
        tell(resources, 3)
        courier(resources).send_due()
    assert numbers(receiver) == [1, 1, 1, 2, 3]
    assert len({one.headers["webhook-id"] for one in receiver.asked}) == 3
    assert [one.attempts for one in sent(resources, row)] == [3, 1, 1]
    with resources.database.read() as session:
        assert webhooks.get(session, row.id).failures == 0


def test_many_workers_send_each_delivery_once_and_in_order(resources: Resources) -> None:
    with scripted(answer({})) as receiver:
        hook(resources, receiver.url)
        tell(resources, *range(12))
        workers = [threading.Thread(target=courier(resources).send_due) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert numbers(receiver) == [*range(12)]


def test_a_redirect_is_not_followed(resources: Resources) -> None:
    with scripted(answer({})) as inside, scripted(answer({}, 302, Location=inside.url)) as receiver:
        row = hook(resources, receiver.url)
        tell(resources, 1)
        courier(resources).send_due()
    assert inside.asked == []
    assert sent(resources, row)[0].error == "the receiver answered 302"


def test_a_private_address_is_refused_when_it_is_used(resources: Resources) -> None:
    closed = resources.settings.model_copy(update={"webhooks_to_private_addresses": False})
    with scripted(answer({})) as receiver:
        row = hook(resources, receiver.url)
        tell(resources, 1)
        courier(Resources(**{**vars(resources), "settings": closed})).send_due()
    assert receiver.asked == []
    assert sent(resources, row)[0].error == "'127.0.0.1' is 127.0.0.1"


def test_the_address_that_was_checked_is_the_one_that_is_used(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    with scripted(answer({})) as receiver:
        port = int(receiver.url.rpartition(":")[2])

        def rebinding(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
            looked_up.append(host)
            address = "127.0.0.1" if len(looked_up) == 1 else "192.0.2.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        hook(resources, f"http://rebinding.example:{port}/")
        tell(resources, 1)
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", rebinding)
            courier(resources).send_next()
    assert looked_up == ["rebinding.example"]
    assert receiver.asked[0].headers["host"] == f"rebinding.example:{port}"


def test_410_ends_a_webhook_until_it_is_resumed(resources: Resources) -> None:
    with scripted(answer({}, 410), answer({})) as receiver:
        row = hook(resources, receiver.url)
        tell(resources, 1)
        courier(resources).send_due()
        be_patient(resources)
        courier(resources).send_due()
        assert numbers(receiver) == [1]
        with resources.database.write() as session:
            assert webhooks.revive(session, row.id).enabled
        courier(resources).send_due()
    assert numbers(receiver) == [1, 1]


def test_what_waits_for_three_days_is_given_up(resources: Resources) -> None:
    with scripted(answer({}, 503), answer({})) as receiver:
        row = hook(resources, receiver.url)
        tell(resources, 1, 2)
        with resources.database.write() as session:
            session.execute(update(WebhookDelivery).values(created_at=1.0))
        tell(resources, 3)
        courier(resources).send_due()
        be_patient(resources)
        courier(resources).send_due()
    assert numbers(receiver) == [1, 3]
    assert [one.state for one in sent(resources, row)] == ["failed", "failed", "delivered"]


@pytest.mark.parametrize("resources", ["postgres"], indirect=True)
def test_an_event_holds_no_webhook_before_its_transaction_ends(resources: Resources) -> None:
    """Else whoever ends a job and whoever cancels the next one may wait for each other."""
    hook(resources, "http://127.0.0.1:9/")
    with resources.database.write() as session:
        webhooks.tell(session, "default", EVENT, {})
        session.flush()
        with resources.database.write() as other:
            held = select(Webhook).with_for_update(nowait=True)
            assert len(other.scalars(held).all()) == 1


def test_a_receiver_that_never_ends_its_answer_is_cut(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_request, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        row = hook(resources, f"http://127.0.0.1:{server.getsockname()[1]}/")
        tell(resources, 1)
        dripping = threading.Thread(target=drip, args=(server,))
        dripping.start()
        began = time.monotonic()
        courier(resources).send_due()
        seconds = time.monotonic() - began
        dripping.join()
    assert seconds < 5.0
    (delivery,) = sent(resources, row)
    assert (delivery.state, delivery.status) == ("pending", None)


def drip(server: socket.socket) -> None:
    """Send a byte of a header now and then, until nobody reads any more."""
    wire, _ = server.accept()
    with wire, contextlib.suppress(OSError):
        wire.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not select_readable([wire], [], [], 0.1)[0] or wire.recv(65536):
            wire.sendall(b"a")


def test_an_event_that_is_not_committed_is_not_told(resources: Resources) -> None:
    with scripted(answer({})) as receiver:
        hook(resources, receiver.url)
        with pytest.raises(RuntimeError):
            tell_in_vain(resources)
        courier(resources).send_due()
    assert receiver.asked == []
