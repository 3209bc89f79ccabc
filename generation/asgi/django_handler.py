"""Django's ASGI handler, which hands streamed responses over to the middleware around it instead of iterating them."""

from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, StreamingHttpResponse

from generation.asgi.types import STREAMED, Message, Send


class DjangoHandler(ASGIHandler):
    """Django's handler sends within the request's thread, which a slow client would keep as long as it likes.

    In place of the body of a `StreamingHttpResponse` it sends one message with the response itself, under `STREAMED`.
    """

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super().run_get_response(request)
        return _Head(response) if isinstance(response, StreamingHttpResponse) else response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        async def send_with_stream(message: Message) -> None:
            if isinstance(response, _Head) and message["type"] == "http.response.body":
                message = {**message, STREAMED: response.streamed}
            await send(message)

        await super().send_response(response, send_with_stream)


class _Head(HttpResponse):
    """Status, headers and cookies of a streamed response, with no body of its own."""

    def __init__(self, streamed: StreamingHttpResponse) -> None:
        super().__init__(status=streamed.status_code, reason=streamed.reason_phrase)
        self.streamed = streamed
        self.headers: Any = streamed.headers
        self.cookies = streamed.cookies
