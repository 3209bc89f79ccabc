"""Types, scope keys and small functions that the ASGI middlewares share."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The types of `asgiref.typing` are typed dictionaries, which do not have the keys below.
Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Keys that `LongPollMiddleware` adds to the scope; no client can set them.
GENERATION_ID = "dreamsite.generation_id"
"""The id that a submission must use."""
BODY_REFUSAL = "dreamsite.body_refusal"
"""The `Refusal` of a body, which is missing, such as one over the limit; else None."""
ADMISSION = "dreamsite.admission"
"""An `Admission`: the body has not been read, and the request is only about whether it shall be."""
CALLER = "dreamsite.caller"
"""The `generation.asgi.callers.Caller` for whom the request counts. Views tell it whose a token or session is."""
IS_ANSWER = "dreamsite.answer"
"""The middleware's own request, for the answer to a client that it holds."""

STREAM_IS_OPEN = "dreamsite.stream_is_open"
"""The client's event stream is open already: its signed address may have expired since."""

ERROR_CODE = "dreamsite.error_code"
"""The key of the message that begins an error: its `ErrorCode`, for the counters."""

ROUTE = "dreamsite.route"
"""The key of the message that begins Django's response: the route, which has no ids, for the names of spans."""

STREAMED = "dreamsite.streamed"
"""The key of a message of `DjangoHandler` with a streamed response, whose body is still to be sent."""


@dataclass
class Admission:
    """Whose request this is, if its token or session is usable. Django sets it; else its response is the answer."""

    user_id: int | None = None


def header(scope: Scope, name: bytes) -> str:
    """Return all values of a request header, joined as HTTP joins them; empty without any. `name` is in lower case."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON that is not cached."""
    await _send(send, status, "application/json", json.dumps(content), headers)


async def send_text(send: Send, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    """Answer with plain text that is not cached."""
    await _send(send, status, "text/plain; charset=utf-8", text, headers)


async def _send(send: Send, status: int, kind: str, content: str, headers: Mapping[str, str] | None) -> None:
    body = content.encode()
    headers = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        **(headers or {}),
    }
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def parse_body(response: Sequence[Message]) -> dict[str, Any]:
    """Return the JSON object that is the body of a response."""
    body: dict[str, Any] = json.loads(b"".join(message.get("body", b"") for message in response[1:]))
    return body
