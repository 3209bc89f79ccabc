"""The ASGI middleware that gives each request an `X-Request-Id`."""

from accounts import request_ids
from generation.asgi.types import Application, Message, Receive, Scope, Send

_HEADER = b"x-request-id"


def request_id_middleware(application: Application) -> Application:
    """Wrap an ASGI application: each request has one valid `X-Request-Id`, and its response the same."""

    async def with_request_id(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        # Several values may come from several senders: none of them is trusted.
        request_id = request_ids.sanitize(values[0] if len(values) == 1 else "")
        header = (_HEADER, request_id.encode())
        other_headers = [(name, value) for name, value in scope["headers"] if name != _HEADER]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), header]}
            await send(message)

        # Not reset: uvicorn runs each request in a task of its own, and logs errors of the application there.
        request_ids.set_current(request_id)
        await application({**scope, "headers": [*other_headers, header]}, receive, send_with_id)

    return with_request_id
