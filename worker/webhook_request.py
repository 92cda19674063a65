"""One POST to a webhook: signed, to an address that was checked, within a time limit.

Redirects are not followed, and nothing but the status of the answer is read.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from core.store.tables import Webhook, WebhookDelivery
from core.system.public_address import Endpoint, resolve
from topwork.errors import AddressRefused, AddressUnknown

SECONDS = 20.0
"""For a whole request; the receiver is to answer first and to work afterwards."""


class _Connection(http.client.HTTPConnection):
    """A connection to an endpoint that was checked, under the name that was asked for."""

    def __init__(
        self, host: str, port: int, endpoint: Endpoint, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self._endpoint, self._tls = endpoint, tls
        self._is_over = False

    def connect(self) -> None:
        self.sock = socket.socket(self._endpoint.family, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._endpoint.address)
        if self._tls is not None:
            # The handshake comes after `sock` is what `cut` has to end.
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()
        self.check()

    def check(self) -> None:
        """Raise TimeoutError where `cut` was called; the end of what was read may look whole."""
        if self._is_over:
            raise TimeoutError(f"no answer within {SECONDS:.0f} s")

    def cut(self) -> None:
        """End the exchange from another thread, in whichever state it is."""
        self._is_over = True
        if self.sock is not None:
            with contextlib.suppress(OSError):  # It is not connected yet.
                self.sock.shutdown(socket.SHUT_RDWR)


def sign(secret: str, message: str, moment: int, body: bytes) -> str:
    """Return the header `webhook-signature` (Standard Webhooks, symmetric `v1`)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message}.{moment}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def send(webhook: Webhook, delivery: WebhookDelivery, *, private: bool) -> dict[str, Any]:
    """Return the `status` of the receiver's answer, and the `error` where it is not 2xx."""
    try:
        status = _post(webhook, delivery, private=private)
    except (AddressRefused, AddressUnknown) as error:
        return {"status": None, "error": error.message}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"status": None, "error": f"{type(error).__name__}: {error}"[:300]}
    fine = 200 <= status < 300  # noqa: PLR2004 - RFC 9110, 15.3.
    return {"status": status, "error": None if fine else f"the receiver answered {status}"}


def _post(webhook: Webhook, delivery: WebhookDelivery, *, private: bool) -> int:
    parts = urlsplit(webhook.url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    endpoint = resolve(host, port, private=private)[0]
    body = json.dumps(delivery.payload, separators=(",", ":")).encode()
    moment = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "topwork",
        "webhook-id": delivery.message,
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(webhook.secret, delivery.message, moment, body),
    }
    tls = ssl.create_default_context() if secure else None
    connection = _Connection(host, port, endpoint, tls)
    # A receiver that sends a byte now and then would never exceed the time limit of a read.
    limit = threading.Timer(SECONDS, connection.cut)
    limit.daemon = True
    limit.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
        connection.check()
        return status
    finally:
        limit.cancel()
        connection.close()
