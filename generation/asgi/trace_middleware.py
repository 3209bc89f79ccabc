"""The ASGI middleware that continues the trace of a client, or with OpenTelemetry begins one."""

import re

from accounts import request_ids, traces
from generation import tracing
from generation.asgi import paths
from generation.asgi.types import ERROR_CODE, ROUTE, Application, Message, Receive, Scope, Send

_HEADER = b"traceparent"


def trace_middleware(application: Application) -> Application:
    """Wrap an ASGI application: requests to the API, and those with pictures, belong to the trace that `traceparent` names.

    Its place is below the middleware for request ids.
    """

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_traced(scope):
            await application(scope, receive, send)
            return
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        method, path = scope["method"], scope["path"]
        with tracing.request(method, request_ids.current(), traces.valid(values)) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # What is held is answered at a route of the middleware's own.
                    route = path if paths.is_long_poll(path) else f"/{message.get(ROUTE, '')}"
                    span.answer(f"{method} {route}", message["status"], message.get(ERROR_CODE, ""))
                await send(message)

            traces.set_current(span.traceparent)
            await application(scope, receive, send_traced)

    return traced


def _is_traced(scope: Scope) -> bool:
    """Return whether the request is one to the API or with pictures: pages and their many files would hide these."""
    path = paths.merge_slashes(scope["path"])
    return bool(re.match(paths.API_PATHS, path)) or paths.takes_pictures(scope["method"], path)
