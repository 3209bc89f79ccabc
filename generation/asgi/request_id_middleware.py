"""The `X-Request-Id` of each request and its response."""

from accounts import request_ids
from generation.asgi.types import Application, Message, Receive, Scope, Send

_HEADER = b"x-request-id"


def request_id_middleware(application: Application) -> Application:
    """An ASGI application around this one: each request has one sane `X-Request-Id`, and its response tells it."""

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        # Several may be of several origins: none of them is to be believed.
        request_id = request_ids.sanitize(named[0] if len(named) == 1 else "")
        header = (_HEADER, request_id.encode())
        others = [(name, value) for name, value in scope["headers"] if name != _HEADER]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), header]}
            await send(message)

        # Not reset: the server runs each request in a task of its own, and logs there what the application raises.
        request_ids.set_current(request_id)
        await application({**scope, "headers": [*others, header]}, receive, send_with_id)

    return identified
