"""The ASGI middleware around Django: a client that waits for its pictures costs a coroutine, no thread and no connection.

It reads bodies up to a limit, passes a bounded number of requests to Django at a time, and holds the answer to an accepted
submission until the generation is final: an event on the Redis stream tells so, or else a slow poll of the database.
`/health` is answered here, so that it does not depend on how busy Django is.
"""

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import IO
from uuid import UUID

from django.conf import settings
from django.utils.http import parse_header_parameters
from uuid_utils.compat import uuid7

from generation.asgi import paths, sse
from generation.asgi.errors import error_body_at
from generation.asgi.preferences import Preferences, parse_prefer
from generation.asgi.subscriptions import Subscriptions
from generation.asgi.types import (
    BODY_TOO_LARGE,
    GENERATION_ID,
    IS_ANSWER,
    Application,
    Message,
    Receive,
    Scope,
    Send,
    header,
    send_json,
    send_redirect,
    wait_for_disconnect,
)
from generation.parameters import ErrorCode

DJANGO_THREADS = 8
_CHUNK_BYTES = 1024 * 1024
_MAX_DISCARDED_BYTES = 64 * 1024 * 1024
_MAX_CONTENT_TYPE_BYTES = 1000
_RETRY_SECONDS = 1.0


class LongPollMiddleware:
    """An ASGI application around Django's. `generation.asgi.types` has the keys that it adds to the scope."""

    def __init__(self, django: Application) -> None:
        self._django = django
        self._slots = asyncio.Semaphore(DJANGO_THREADS)
        self._subscriptions = Subscriptions()
        self._loop: asyncio.AbstractEventLoop | None = None

    def release_clients(self) -> None:
        """Answer all held clients with the record so far, since the process is stopping. Callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._subscriptions.release_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            await send_json(send, 200, {"status": "OK"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loop = asyncio.get_running_loop()
                self._subscriptions.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._subscriptions.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with tempfile.SpooledTemporaryFile(max_size=_CHUNK_BYTES) as body:
            try:
                size = await _read_body(receive, body)
            except ConnectionAbortedError:
                return
            if size is None:
                scope = {**scope, BODY_TOO_LARGE: True}
                send = _with_connection_close(send)
            scope = {**scope, "headers": _normalized_headers(scope["headers"], size or 0)}
            if scope["method"] == "POST" and paths.is_long_poll(scope["path"]):
                await self._hold(scope, body, receive, send)
            elif size is not None and (generation_id := sse.generation_of(scope)):
                body.close()
                client = sse.Client(scope, receive, send)
                record_scope = _record_scope(scope)
                await sse.serve(generation_id, client, lambda: self._call(record_scope), self._subscriptions)
            elif size is not None:
                await self._forward(scope, _replay(body, receive), send)
            elif scope["method"] == "POST" and scope["path"] == "/" and not header(scope, b"x-requested-with"):
                # The studio's form, sent by a browser without scripts: a page says more than JSON.
                await send_redirect(send, "/?refused=size")
            else:
                code = ErrorCode.UPLOAD_TOO_LARGE
                body_of_error = error_body_at(scope["path"], code, "The request is too large.")
                await send_json(send, code.status, body_of_error, code.retry_headers())

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let Django answer the client. A streamed response occupies no slot: the client of a download may be slow."""
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(self._slots)

            async def send_and_leave_slot(message: Message) -> None:
                if message.get("more_body"):
                    await slot.aclose()
                await send(message)

            await self._django(scope, receive, send_and_leave_slot)

    async def _hold(self, scope: Scope, body: IO[bytes], receive: Receive, send: Send) -> None:
        generation_id: UUID = uuid7()
        preferences = parse_prefer(header(scope, b"prefer"))
        deadline = asyncio.get_running_loop().time() + _max_wait(preferences)
        with ExitStack() as subscribed:
            final = subscribed.enter_context(self._subscriptions.final_event(generation_id))
            response = await self._call({**scope, GENERATION_ID: generation_id}, _replay(body, None))
            body.close()
            if response[0]["status"] == 202:
                accepted_id = _accepted_id(response)
                is_duplicate = accepted_id != generation_id
                if is_duplicate:
                    final = subscribed.enter_context(self._subscriptions.final_event(accepted_id))
                    # The generation may have ended before its event was subscribed to.
                    if await self._is_final(scope, accepted_id):
                        final.set()
                if not await _wait(final, receive, deadline):
                    # A duplicate must not cancel the generation of the first request.
                    if preferences.cancel_on_disconnect and not is_duplicate:
                        await self._call(_answer_scope(scope, generation_id, "DELETE"))
                    return
                answer = await self._answer(_answer_scope(scope, accepted_id, "GET"), deadline)
                response = _with_applied_preferences(preferences, answer)
        for message in response:
            await send(message)

    async def _is_final(self, scope: Scope, generation_id: UUID) -> bool:
        # Not the path of the request: OpenAI's has another status for what is not finished.
        original = {**scope, "path": f"/{paths.IMAGE_TO_IMAGE}"}
        return bool((await self._call(_answer_scope(original, generation_id, "GET")))[0]["status"] != 202)

    async def _answer(self, scope: Scope, deadline: float) -> list[Message]:
        """Return Django's answer to a held client. If the service is unavailable, retry until the deadline.

        A generation can end with the same status, since its model is not downloaded: such an answer names the generation.
        """
        loop = asyncio.get_running_loop()
        while True:
            answer = await self._call(scope)
            start = answer[0]
            is_its_end = any(name.lower() == b"x-generation-id" for name, _ in start["headers"])
            if start["status"] != 503 or is_its_end or loop.time() >= deadline:
                return answer
            await asyncio.sleep(_RETRY_SECONDS)

    async def _call(self, scope: Scope, receive: Receive | None = None) -> list[Message]:
        """Return Django's whole response. Django does not see a disconnect of the client, and finishes in any case."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        async with self._slots:
            await self._django(scope, receive or _replay(None, None), collect)
        return messages


def _answer_scope(scope: Scope, generation_id: UUID, method: str) -> Scope:
    """Return the scope of the middleware's own request for, or with DELETE against, the answer to a held request."""
    path = paths.answer_path(scope["path"], generation_id)
    return {
        **scope,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        IS_ANSWER: True,
    }


def _accepted_id(response: Sequence[Message]) -> UUID:
    """Return the generation of an accepted request: a new one, or for a duplicate that of the first request."""
    return UUID(next(value for name, value in response[0]["headers"] if name.lower() == b"x-generation-id").decode())


def _record_scope(scope: Scope) -> Scope:
    """Return the scope of a request for the record behind an event stream: never compressed, never 304."""
    ignored = (b"accept-encoding", b"if-none-match")
    return {**scope, "method": "GET", "headers": [pair for pair in scope["headers"] if pair[0] not in ignored]}


def _max_wait(preferences: Preferences) -> float:
    """Return the seconds that this client is held: what it prefers, at most `WAIT_SECONDS`."""
    if preferences.wait is not None:
        return min(preferences.wait, settings.WAIT_SECONDS)
    return 0.0 if preferences.respond_async else settings.WAIT_SECONDS


def _with_applied_preferences(preferences: Preferences, answer: Sequence[Message]) -> list[Message]:
    """Add the header that lists the applied preferences (RFC 7240, section 3)."""
    start, *body = answer
    is_applied = {
        "respond-async": preferences.respond_async and start["status"] == 202,
        f"wait={_max_wait(preferences):g}": preferences.wait is not None,
        "cancel-on-disconnect": preferences.cancel_on_disconnect,
    }
    if applied := ", ".join(name for name, applies in is_applied.items() if applies):
        start = {**start, "headers": [*start["headers"], (b"preference-applied", applied.encode())]}
    return [start, *body]


async def _read_body(receive: Receive, body: IO[bytes]) -> int | None:
    """Store the request's body and return its size in bytes; None if it is over the limit.

    The rest of a body that is too large is read and dropped up to a bound, since a client that is still sending would
    see a closed connection instead of the answer. Raises `ConnectionAbortedError` if the client disconnects.
    """
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= settings.MAX_UPLOAD_BYTES:
            body.write(chunk)
        elif size > settings.MAX_UPLOAD_BYTES + _MAX_DISCARDED_BYTES:
            return None
        if not message.get("more_body", False):
            break
    body.seek(0)
    return size if size <= settings.MAX_UPLOAD_BYTES else None


def _normalized_headers(headers: Iterable[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    """Return the headers as Django can read them.

    Content-Length is always present, since DRF takes a chunked body, which has none, for empty. Content-Type is in lower
    case, since Django does not recognise forms otherwise, and absent if parsing it would raise an error.
    """
    normalized = [(b"content-length", str(size).encode())]
    for name, value in headers:
        if name == b"content-type":
            kind, semicolon, parameters = value.partition(b";")
            if _is_parsable(value):
                normalized.append((name, kind.lower() + semicolon + parameters))
        elif name not in (b"content-length", b"transfer-encoding"):
            normalized.append((name, value))
    return normalized


def _is_parsable(content_type: bytes) -> bool:
    # The time for parsing grows with the square of the length.
    if len(content_type) > _MAX_CONTENT_TYPE_BYTES:
        return False
    try:
        parse_header_parameters(content_type.decode("latin-1"))
    except (ValueError, LookupError):
        return False
    return True


def _with_connection_close(send: Send) -> Send:
    """Return a `send` that closes the connection after the response, since the rest of the request is not read."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close


def _replay(body: IO[bytes] | None, receive: Receive | None) -> Receive:
    """Return a `receive` for the stored body, then for the client's messages; without a client it waits for ever."""
    ended = False

    async def replay() -> Message:
        nonlocal ended
        if not ended:
            chunk = body.read(_CHUNK_BYTES) if body is not None else b""
            ended = len(chunk) < _CHUNK_BYTES
            return {"type": "http.request", "body": chunk, "more_body": not ended}
        if receive is not None:
            return await receive()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody resolves was resolved")

    return replay


async def _wait(final: asyncio.Event, receive: Receive, deadline: float) -> bool:
    """Wait until the generation is final or the deadline has passed. Returns False if the client disconnects first."""
    end = asyncio.create_task(final.wait())
    disconnect = asyncio.create_task(wait_for_disconnect(receive))
    timeout = deadline - asyncio.get_running_loop().time()
    try:
        await asyncio.wait({end, disconnect}, timeout=max(0.0, timeout), return_when=asyncio.FIRST_COMPLETED)
        return end.done() or not disconnect.done()
    finally:
        end.cancel()
        disconnect.cancel()
