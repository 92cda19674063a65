"""Requests byte by byte: every way to frame a body with every hop-by-hop field, right and wrong."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX-Secret: 1\r\n\r\n"
"""What no server may take for a request where it stands inside of a body."""

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + SMUGGLED
    + b"\r\n--b--\r\n"
)

FIELDS: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "h2c": (b"Connection: Upgrade", b"Upgrade: h2c"),
    "h2c of curl": (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ),
    "websocket": (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    "unknown": (b"Connection: upgrade", b"Upgrade: foo"),
    "a version": (b"Connection: upgrade", b"Upgrade: TLS/1.0"),
    "a list": (b"Connection: upgrade", b"Upgrade: h2c, websocket, foo/2"),
    "odd case": (b"cOnNeCtIoN: KEEP-alive, uPGRADE", b"uPgRaDe: H2C"),
    "several": (b"Upgrade: h2c", b"Connection: upgrade", b"Upgrade: websocket"),
    "several tokens": (b"Connection: keep-alive", b"Upgrade: h2c", b"Connection: upgrade"),
    "empty": (b"Connection: upgrade", b"Upgrade:"),
    "unannounced": (b"Upgrade: h2c",),
    "announced only": (b"Connection: upgrade",),
    "closing": (b"Connection: close, upgrade", b"Upgrade: h2c"),
    "close": (b"Connection: close",),
    "keep": (b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=1"),
    "names the length": (b"Connection: content-length, transfer-encoding, host",),
    "odd tokens": (b"Connection: ,, x;y=1,\t,upgraded, close2",),
    "TE": (b"Connection: TE", b"TE: trailers, gzip;q=0.5"),
    "Trailer": (b"Trailer: X-Checksum, Content-Length",),
    "Expect": (b"Expect: 100-continue",),
    "Expect and h2c": (b"Expect: 100-continue", b"Connection: upgrade", b"Upgrade: h2c"),
    "Expect else": (b"Expect: 200-ok",),
    "of proxies": (b"Proxy-Connection: keep-alive, upgrade", b"Proxy-Authenticate: x"),
    "of proxies, close": (b"Proxy-Connection: close",),
    "settings alone": (b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",),
}


@dataclass(frozen=True)
class Call:
    """What the application has to see of a request."""

    method: bytes
    path: bytes
    body: bytes = b""


@dataclass(frozen=True)
class Exchange:
    """What a client sends on one connection, and what has to come of it.

    Args:
        name: Its place in the corpus.
        data: The bytes.
        calls: The requests in them that are whole; each is answered with 200, in this order.
        refused: Whether 400 comes after those answers, and then the end of the connection.
        closes: Whether the connection ends with the last answer.
        of_two_minds: Whether a proxy may read it in another way.
        unread: Whole requests behind the one that closes; a proxy may see that otherwise.
    """

    name: str
    data: bytes
    calls: tuple[Call, ...]
    refused: bool = False
    closes: bool = False
    of_two_minds: bool = False
    unread: tuple[Call, ...] = ()


def head(method: bytes, path: bytes, lines: tuple[bytes, ...], version: bytes = b"1.1") -> bytes:
    first = method + b" " + path + b" HTTP/" + version
    return b"\r\n".join((first, b"Host: localhost", *lines)) + b"\r\n\r\n"


def sized(body: bytes, length: int | None = None) -> bytes:
    return b"Content-Length: %d" % (len(body) if length is None else length)


CHUNKED = b"Transfer-Encoding: chunked"


def chunks(body: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    cut = len(body) // 3
    pieces = [piece for piece in (body[:cut], body[cut : cut + 7], body[cut + 7 :]) if piece]
    sent = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    return sent + b"0\r\n" + trailers + b"\r\n"


def exchanges() -> Iterator[Exchange]:
    """Every shape of request with every set of fields."""
    for name, lines in FIELDS.items():
        for exchange in _shapes(lines):
            yield replace(exchange, name=f"{exchange.name} / {name}")


def _shapes(lines: tuple[bytes, ...]) -> Iterator[Exchange]:
    closes = any(b"Connection: close" in line for line in lines)  # Of proxies, too.
    get = head(b"GET", b"/a", lines)
    yield Exchange("get", get, (Call(b"GET", b"/a"),), closes=closes)
    yield Exchange("head", head(b"HEAD", b"/a", lines), (Call(b"HEAD", b"/a"),), closes=closes)
    bodies = {
        "length": ((sized(SMUGGLED),), SMUGGLED, SMUGGLED),
        "length first": ((sized(SMUGGLED), b"X-Last: 1"), SMUGGLED, SMUGGLED),
        "no bytes": ((sized(b""),), b"", b""),
        "chunked": ((CHUNKED,), chunks(SMUGGLED), SMUGGLED),
        "extension": ((CHUNKED,), chunks(SMUGGLED, b";a=b"), SMUGGLED),
        "trailers": ((CHUNKED,), chunks(SMUGGLED, trailers=b"X-Checksum: 1\r\n"), SMUGGLED),
        "no chunks": ((CHUNKED,), chunks(b""), b""),
        "form": ((b"Content-Type: multipart/form-data; boundary=b", sized(FORM)), FORM, FORM),
    }
    for name, (framing, sent, body) in bodies.items():
        call = Call(b"POST", b"/b", body)
        data = head(b"POST", b"/b", (*framing, *lines)) + sent
        yield Exchange(name, data, (call,), closes=closes)
        yield _pair(f"{name}, then get", data + get, (call, Call(b"GET", b"/a")), closes=closes)
        if name in ("length", "chunked"):
            pair = (Call(b"GET", b"/a"), call)
            yield _pair(f"get, then {name}", get + data, pair, closes=closes)
            old = head(b"POST", b"/b", (*framing, *lines), b"1.0") + sent
            odd = CHUNKED in framing  # HTTP/1.0 knows no chunks.
            yield Exchange(f"{name} of 1.0", old, (call,), closes=True, of_two_minds=odd)
    yield from _wrong(lines, get, closes=closes)


def _pair(name: str, data: bytes, calls: tuple[Call, Call], *, closes: bool) -> Exchange:
    """Two requests, of which the second is not read where the first one closes."""
    count = 1 if closes else 2
    return Exchange(name, data, calls[:count], closes=closes, unread=calls[count:])


def _wrong(lines: tuple[bytes, ...], get: bytes, *, closes: bool) -> Iterator[Exchange]:
    """Requests whose framing is broken, and one that is answered before its end."""
    known = (Call(b"GET", b"/a"),)
    long = head(b"POST", b"/b", (sized(SMUGGLED, 1000), *lines)) + SMUGGLED
    yield Exchange("length too long", long, (), closes=True)
    short = head(b"POST", b"/b", (sized(SMUGGLED), *lines)) + SMUGGLED + b"\x00rest\r\n\r\n"
    call = (Call(b"POST", b"/b", SMUGGLED),)
    yield Exchange("length too short", short, call, refused=not closes, closes=closes)
    bad = head(b"POST", b"/b", (CHUNKED, *lines)) + b"5\r\nhello\r\nxyz\r\n" + SMUGGLED
    yield Exchange("chunk without size", bad, (), refused=True)
    yield Exchange("after get", get + bad, known, refused=not closes, closes=closes)
    both = head(b"POST", b"/b", (CHUNKED, sized(SMUGGLED), *lines)) + chunks(SMUGGLED)
    yield Exchange("two framings", both, (), refused=True, of_two_minds=True)
    twice = head(b"POST", b"/b", (sized(SMUGGLED), sized(SMUGGLED, 9), *lines)) + SMUGGLED
    yield Exchange("two lengths", twice, (), refused=True)
    tunnel = head(b"CONNECT", b"localhost:80", lines) + SMUGGLED
    behind = (Call(b"GET", b"/smuggled"),)  # Of the client itself, as a CONNECT has no body.
    yield Exchange("a tunnel", tunnel, (), refused=True, unread=behind)
    early = head(b"POST", b"/refused", (sized(SMUGGLED, 5 + len(SMUGGLED)), *lines))
    early += SMUGGLED
    call = (Call(b"POST", b"/refused"),)
    # A server in Go passes no answer on before it has read the whole request.
    yield Exchange("answered early", early, call, closes=True, of_two_minds=True)


def splits(corpus: list[Exchange], count: int | None = None) -> Iterator[tuple[Exchange, int]]:
    """Every place at which each exchange can be cut in two, or so many of them."""
    places = [(exchange, cut) for exchange in corpus for cut in range(len(exchange.data))]
    chosen = places if count is None else random.Random(11).sample(places, count)  # noqa: S311 - no secret.
    yield from chosen
