"""A WebSocket handshake is answered as a plain GET: nothing here changes the protocol.

The servers of this package never see one, as they ignore every offer to change the protocol; any
other ASGI server hands it on as a scope of its own. It then takes the same way as every request:
it gets an id and a line in the log, needs the same key, and is answered with a problem.
"""

from starlette.types import Message, Receive, Scope, Send

SCHEMES = {"ws": "http", "wss": "https"}
TO_HTTP = {"websocket.connect": "http.request", "websocket.disconnect": "http.disconnect"}
DENIAL = "websocket.http.response"
"""The extension of ASGI by which an answer of one's own refuses a handshake."""


def as_get(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """Return the three ASGI arguments of the GET that a websocket scope stands for.

    Where the server lacks the extension for it, the answer becomes a close, which is 403.
    """
    scheme = SCHEMES.get(scope.get("scheme", "ws"), "http")
    request = {**scope, "type": "http", "method": "GET", "scheme": scheme}
    answers = DENIAL in scope.get("extensions", {})

    async def receive_request() -> Message:
        return {"type": TO_HTTP.get((await receive())["type"], "http.disconnect")}

    async def send_denial(message: Message) -> None:
        if answers:
            await send({**message, "type": message["type"].replace("http.response", DENIAL)})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    return request, receive_request, send_denial
