"""The ASGI layer around Django: a client that waits for its pictures costs a coroutine, no thread and no connection.

It reads bodies (bounded), lets a bounded number of requests into Django at a time, and holds the answer of a submission that
Django accepted until the generation is final: woken by an event on the Redis stream, or by a slow look into the database.
`/health` is answered here, so that it stays true however busy Django is.
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
from generation.asgi.preferences import Preferences, preferences
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
    disconnected,
    header,
    send_json,
    send_redirect,
)
from generation.parameters import ErrorCode
from generation.responses import error_body

DJANGO_THREADS = 8
_IN_MEMORY_BYTES = 1024 * 1024
_DISCARDED_BYTES = 64 * 1024 * 1024
_MAX_CONTENT_TYPE_BYTES = 1000
_ASKED_AGAIN_SECONDS = 1.0


class LongPollMiddleware:
    """An ASGI application around Django's. Keys it adds to the scope, which no client can set:

    `dreamsite.generation_id` the id a submission must use; `dreamsite.body_too_large` the body was over the limit and is
    left out; `dreamsite.answer` this is the layer itself, asking for the answer to a request it held.
    """

    def __init__(self, django: Application) -> None:
        self._django = django
        self._slots = asyncio.Semaphore(DJANGO_THREADS)
        self._waiters = Subscriptions()
        self._loop: asyncio.AbstractEventLoop | None = None

    def release(self) -> None:
        """Let every held client go with its record, since the process is about to end. Callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._waiters.release_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            await send_json(send, 200, {"status": "OK"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loop = asyncio.get_running_loop()
                self._waiters.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._waiters.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
            try:
                size = await _read_body(receive, body)
            except ConnectionAbortedError:
                return
            if size is None:
                scope = {**scope, BODY_TOO_LARGE: True}
                send = _closing(send)
            scope = {**scope, "headers": _normalized_headers(scope["headers"], size or 0)}
            if scope["method"] == "POST" and paths.is_held(scope["path"]):
                await self._hold(scope, body, receive, send)
            elif size is not None and (followed := sse.followed(scope)):
                body.close()
                await sse.serve(followed, scope, receive, send, lambda: self._ask(_get_scope(scope)), self._waiters)
            elif size is not None:
                await self._through_a_slot(scope, _replay(body, receive), send)
            elif scope["method"] == "POST" and scope["path"] == "/" and not header(scope, b"x-requested-with"):
                # A person without scripts, who could make nothing of JSON.
                await send_redirect(send, "/?refused=size")
            else:
                await send_json(send, 413, error_body(ErrorCode.UPLOAD_TOO_LARGE, "The request is too large."))

    async def _through_a_slot(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let Django answer. What it streams is no more its work: a slow client of a download keeps nobody waiting."""
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(self._slots)

            async def leaving(message: Message) -> None:
                if message.get("more_body"):
                    await slot.aclose()
                await send(message)

            await self._django(scope, receive, leaving)

    async def _hold(self, scope: Scope, body: IO[bytes], receive: Receive, send: Send) -> None:
        generation_id: UUID = uuid7()
        wanted = preferences(header(scope, b"prefer"))
        deadline = asyncio.get_running_loop().time() + _max_wait(wanted)
        with ExitStack() as registered:
            done = registered.enter_context(self._waiters.register(generation_id))
            accepted = await self._ask({**scope, GENERATION_ID: generation_id}, _replay(body, None))
            body.close()
            if accepted[0]["status"] == 202:
                held = _held(accepted)
                if held != generation_id:
                    # A request that came before, and may have ended before this one waits for it.
                    done = registered.enter_context(self._waiters.register(held))
                    # The alias has another status for what is not finished.
                    original = {**scope, "path": f"/{paths.IMAGE_TO_IMAGE}"}
                    if (await self._ask(_answer_scope(original, held, "GET")))[0]["status"] != 202:
                        done.set()
                if not await _wait(done, receive, deadline):
                    # Who only joined a request has not to end it.
                    if held == generation_id and wanted.cancel_on_disconnect:
                        await self._ask(_answer_scope(scope, generation_id, "DELETE"))
                    return
                accepted = _applied(wanted, await self._answer(_answer_scope(scope, held, "GET"), deadline))
        for message in accepted:
            await send(message)

    async def _answer(self, scope: Scope, deadline: float) -> list[Message]:
        """What became of a request that was accepted. While the database is away, it is asked again until the deadline."""
        loop = asyncio.get_running_loop()
        while (answer := await self._ask(scope))[0]["status"] == 503 and loop.time() < deadline:
            await asyncio.sleep(_ASKED_AGAIN_SECONDS)
        return answer

    async def _ask(self, scope: Scope, receive: Receive | None = None) -> list[Message]:
        """Django's whole response. The client's leaving does not reach Django: what it began, it finishes."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        async with self._slots:
            await self._django(scope, receive or _replay(None, None), collect)
        return messages


def _answer_scope(scope: Scope, generation_id: UUID, method: str) -> Scope:
    """What makes a held request one of the layer itself about this generation."""
    path = paths.answer_path(scope["path"], generation_id)
    return {
        **scope,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        IS_ANSWER: True,
    }


def _held(accepted: Sequence[Message]) -> UUID:
    """The generation that Django accepted the request as, or that a request sent again had made before."""
    return UUID(next(value for name, value in accepted[0]["headers"] if name.lower() == b"x-generation-id").decode())


def _get_scope(scope: Scope) -> Scope:
    """The request as one for the whole answer, in clear."""
    unwanted = (b"accept-encoding", b"if-none-match")
    return {**scope, "method": "GET", "headers": [pair for pair in scope["headers"] if pair[0] not in unwanted]}


def _max_wait(wanted: Preferences) -> float:
    """For how many seconds this client is held: as long as it says, and not at all if it only says not to be."""
    if wanted.wait is not None:
        return min(wanted.wait, settings.WAIT_SECONDS)
    return 0.0 if wanted.respond_async else settings.WAIT_SECONDS


def _applied(wanted: Preferences, answer: Sequence[Message]) -> list[Message]:
    """The answer, and which of the preferences were heeded on the way to it (RFC 7240, section 3)."""
    start, *body = answer
    heeded = {
        "respond-async": wanted.respond_async and start["status"] == 202,
        f"wait={_max_wait(wanted):g}": wanted.wait is not None,
        "cancel-on-disconnect": wanted.cancel_on_disconnect,
    }
    if applied := ", ".join(name for name, was_heeded in heeded.items() if was_heeded):
        start = {**start, "headers": [*start["headers"], (b"preference-applied", applied.encode())]}
    return [start, *body]


async def _read_body(receive: Receive, body: IO[bytes]) -> int | None:
    """Store the request's body and return its size in bytes; None when it is over the limit.

    The rest of a body that is too large is read and dropped up to a bound, since a client that is still sending would
    meet a closed connection instead of the answer. Raises `ConnectionAbortedError` when the client leaves.
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
        elif size > settings.MAX_UPLOAD_BYTES + _DISCARDED_BYTES:
            return None
        if not message.get("more_body", False):
            break
    body.seek(0)
    return size if size <= settings.MAX_UPLOAD_BYTES else None


def _normalized_headers(headers: Iterable[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    """The headers as Django can read them.

    With the length of the body: DRF takes a chunked one, which has no Content-Length, for empty. And with a Content-Type
    that Django understands, or none: it knows forms in lower case only, and fails unforeseen on what it cannot parse.
    """
    kept = [(b"content-length", str(size).encode())]
    for name, value in headers:
        if name == b"content-type":
            kind, semicolon, parameters = value.partition(b";")
            if _is_parsable(value):
                kept.append((name, kind.lower() + semicolon + parameters))
        elif name not in (b"content-length", b"transfer-encoding"):
            kept.append((name, value))
    return kept


def _is_parsable(content_type: bytes) -> bool:
    # Parsing takes a time that grows with the square of the length.
    if len(content_type) > _MAX_CONTENT_TYPE_BYTES:
        return False
    try:
        parse_header_parameters(content_type.decode("latin-1"))
    except (ValueError, LookupError):
        return False
    return True


def _closing(send: Send) -> Send:
    """Ends the connection after the answer, since the rest of the request is not going to be read."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close


def _replay(body: IO[bytes] | None, receive: Receive | None) -> Receive:
    """A `receive` that gives the stored body, then the client's own messages, or silence where there is no client."""
    ended = False

    async def replay() -> Message:
        nonlocal ended
        if not ended:
            chunk = body.read(_IN_MEMORY_BYTES) if body is not None else b""
            ended = len(chunk) < _IN_MEMORY_BYTES
            return {"type": "http.request", "body": chunk, "more_body": not ended}
        if receive is not None:
            return await receive()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody resolves was resolved")

    return replay


async def _wait(done: asyncio.Event, receive: Receive, deadline: float) -> bool:
    """Until the generation is final or the deadline has passed: True. False: the client has left."""
    final = asyncio.create_task(done.wait())
    left = asyncio.create_task(disconnected(receive))
    timeout = deadline - asyncio.get_running_loop().time()
    try:
        await asyncio.wait({final, left}, timeout=max(0.0, timeout), return_when=asyncio.FIRST_COMPLETED)
        return final.done() or not left.done()
    finally:
        final.cancel()
        left.cancel()
