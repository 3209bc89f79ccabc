"""The ASGI middleware that counts each request and its answer."""

from generation.asgi.types import ERROR_CODE, Application, Message, Receive, Scope, Send
from generation.broker import counters

DISCONNECTED = "disconnected"
OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def request_counter(application: Application) -> Application:
    """Wrap an ASGI application: its requests are counted by method and status, and refusals by error code."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        status = DISCONNECTED

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                if code := message.get(ERROR_CODE):
                    counters.add(counters.REFUSALS, code)
            await send(message)

        try:
            await application(scope, receive, send_counted)
        finally:
            # A client may call its method anything, and each would be a series for ever.
            counters.add(counters.REQUESTS, scope["method"] if scope["method"] in _METHODS else OTHER, status)

    return counted
