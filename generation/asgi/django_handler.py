"""Django's ASGI handler: it leaves streamed responses to the middleware around it, and tells it their route and error."""

from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, StreamingHttpResponse

from generation.asgi.types import ERROR_CODE, ROUTE, STREAMED, Message, Send


class DjangoHandler(ASGIHandler):
    """Django's handler sends within the request's thread, which a slow client would keep as long as it likes.

    In place of the body of a `StreamingHttpResponse` it sends one message with the response itself, under `STREAMED`. The first
    message has the response's `error_code` under `ERROR_CODE`, and the route under `ROUTE`, as far as there are any.
    """

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super().run_get_response(request)
        if isinstance(response, StreamingHttpResponse):
            response = _Head(response)
        response.route = request.resolver_match.route if request.resolver_match else ""  # type: ignore[attr-defined]
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        found = {ERROR_CODE: getattr(response, "error_code", ""), ROUTE: getattr(response, "route", "")}
        keys = {key: value for key, value in found.items() if value}

        async def send_with_keys(message: Message) -> None:
            if isinstance(response, _Head) and message["type"] == "http.response.body":
                message = {**message, STREAMED: response.streamed}
            elif message["type"] == "http.response.start":
                message = {**message, **keys}
            await send(message)

        await super().send_response(response, send_with_keys)


class _Head(HttpResponse):
    """Status, headers and cookies of a streamed response, with no body of its own."""

    def __init__(self, streamed: StreamingHttpResponse) -> None:
        super().__init__(status=streamed.status_code, reason=streamed.reason_phrase)
        self.streamed = streamed
        self.headers: Any = streamed.headers
        self.cookies = streamed.cookies
