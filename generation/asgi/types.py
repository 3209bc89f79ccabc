"""Types, scope keys and small helpers that the ASGI layers share."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Plain types: those of `asgiref.typing` are closed dictionaries, which take none of the keys below.
Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Keys that `LongPollMiddleware` adds to the scope, and no client can.
GENERATION_ID = "dreamsite.generation_id"
"""The id that a submission must use."""
BODY_TOO_LARGE = "dreamsite.body_too_large"
"""The body is over the limit, and left out."""
IS_ANSWER = "dreamsite.answer"
"""The layer itself asks, for the answer to a request that it holds."""


def header(scope: Scope, name: bytes) -> str:
    """Return all values of a request header, joined as HTTP joins them; empty without any. `name` is in lower case."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_redirect(send: Send, location: str) -> None:
    """Answer with 303: the client sends a GET to `location`."""
    headers = [(b"location", location.encode()), (b"content-length", b"0"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
