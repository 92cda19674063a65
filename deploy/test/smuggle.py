"""Send the corpus of ambiguous requests through a TLS proxy: `smuggle.py HOST PORT ROOT`.

ROOT is the file of the certificate that signed the proxy's. After each exchange, another connection
must get the answer to what it asked for itself. Which requests reached the api its log shows;
nothing that stood in a body may be among them.
"""

import collections
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.app.asgi.exchanges import SMUGGLED, exchanges

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
host, port, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=root)
# A tunnel has no body: what follows it is a request of its own.
corpus = [one for one in exchanges() if not one.of_two_minds and "tunnel" not in one.name]


def sent(data: bytes, seconds: float) -> bytes:
    """What comes back on a new connection until its end, or until nothing comes for so long."""
    received = b""
    with (
        socket.create_connection((host, port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as wire,
        suppress(TimeoutError, ConnectionError, ssl.SSLError),
    ):
        wire.sendall(data)
        wire.settimeout(seconds)
        while piece := wire.recv(65_536):
            received += piece
    return received


statuses = collections.Counter[str]()
for exchange in corpus[::5]:
    answers = sent(exchange.data, 0.3).split(b"HTTP/1.1 ")[1:]
    statuses.update(answer[:3].decode() for answer in answers)
    health = sent(HEALTH, 20)
    if not health.startswith(b"HTTP/1.1 200 ") or health.count(b"HTTP/1.1 ") != 1:
        sys.exit(f"after '{exchange.name}' somebody else was answered: {health!r}")
carrying = sum(SMUGGLED in exchange.data for exchange in corpus[::5])
told = f"{len(corpus[::5])} exchanges, {carrying} of them with a request in a body: {statuses}\n"
sys.stdout.write(told)
