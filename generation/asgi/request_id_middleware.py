"""The ASGI middleware that gives each request an `X-Request-Id`, and keeps the client's own id beside it."""

from accounts import request_ids
from generation.asgi.types import Application, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
_CLIENT_HEADER = b"x-client-request-id"


def request_id_middleware(application: Application) -> Application:
    """Wrap an ASGI application: each request has a new `X-Request-Id`, and its response the same.

    The id that a client sends as `X-Request-Id` or `X-Client-Request-Id` is answered as the latter.
    """

    async def with_request_id(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        client_id = _client_id(scope)
        request_id = request_ids.new()
        ids = [(_HEADER, request_id.encode())]
        if client_id:
            ids.append((_CLIENT_HEADER, client_id.encode()))
        other_headers = [(name, value) for name, value in scope["headers"] if name not in (_HEADER, _CLIENT_HEADER)]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *ids]}
            await send(message)

        # Not reset: uvicorn runs each request in a task of its own, and logs errors of the application there.
        request_ids.set_current(request_id, client_id)
        await application({**scope, "headers": [*other_headers, *ids]}, receive, send_with_id)

    return with_request_id


def _client_id(scope: Scope) -> str:
    """Return the id that the client sent, empty if it sent none or an invalid one."""
    for wanted in (_CLIENT_HEADER, _HEADER):
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
        # Several values may come from several senders.
        if len(values) == 1 and (client_id := request_ids.valid(values[0])):
            return client_id
    return ""
