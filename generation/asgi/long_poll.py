"""The ASGI middleware around Django: a client that waits for its pictures costs a coroutine, no thread and no connection.

It counts the requests of each caller, asks whose a request is before a large body is read, reads bodies within limits, passes a
bounded number of requests to Django at a time, and holds the answer to an accepted submission until the generation is final: an
event on the Redis stream tells so, or else a slow poll of the database.
`/health` is answered here, so that it does not depend on how busy Django is.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import IO
from uuid import UUID

from django.conf import settings
from uuid_utils.compat import uuid7

from accounts.access import Access
from generation.asgi import bodies, paths, sse
from generation.asgi.body_budget import MAX_VERIFIED, MAX_VERIFIED_OF_ONE, BodyBudget
from generation.asgi.callers import Callers
from generation.asgi.preferences import Preferences, parse_prefer
from generation.asgi.refusals import send_refusal
from generation.asgi.slots import Slots
from generation.asgi.subscriptions import Subscriptions
from generation.asgi.transfers import Transfers
from generation.asgi.types import (
    ADMISSION,
    BODY_REFUSAL,
    CALLER,
    GENERATION_ID,
    IS_ANSWER,
    STREAM_IS_OPEN,
    Admission,
    Application,
    Message,
    Receive,
    Scope,
    Send,
    header,
    parse_body,
    send_json,
    wait_for_disconnect,
)
from generation.parameters import Refusal

_RETRY_SECONDS = 1.0


class LongPollMiddleware:
    """An ASGI application around Django's. `generation.asgi.types` has the keys that it adds to the scope."""

    def __init__(self, django: Application) -> None:
        self._django = django
        self._callers = Callers()
        self._slots = Slots()
        self._subscriptions = Subscriptions()
        self._budget = BodyBudget()
        self._verified = BodyBudget(MAX_VERIFIED, MAX_VERIFIED_OF_ONE)
        self._transfers = Transfers()
        self._loop: asyncio.AbstractEventLoop | None = None

    def release_clients(self) -> None:
        """Answer all held clients with the record so far, since the process is stopping. Callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._subscriptions.release_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        scope = {**scope, "path": paths.merge_slashes(scope["path"])}
        if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            await send_json(send, 200, {"status": "OK"})
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request unless its caller has sent too many, which is said before anything of its body is read."""
        incoming = bodies.Incoming(receive)
        send = incoming.responding(send)
        caller = self._callers.caller(scope)
        try:
            self._callers.count(scope, caller)
        except Refusal as refusal:
            await send_refusal(scope, refusal, send)
            return
        try:
            await self._serve({**scope, CALLER: caller}, incoming, send)
        finally:
            self._callers.learn(caller)

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

    async def _serve(self, scope: Scope, incoming: bodies.Incoming, send: Send) -> None:
        if bodies.needs_admission(scope):
            admission = Admission()
            response = await self._ask_admission(scope, admission)
            if admission.user_id is None:
                for message in response:
                    await send(message)
                return
        is_verified = paths.verifies(scope["method"], scope["path"])
        with ExitStack() as held:
            budget = self._verified if is_verified else self._budget
            share = held.enter_context(budget.share(scope[CALLER].key))
            # A file without a name: nothing of it is left if the process is killed.
            body = held.enter_context(tempfile.SpooledTemporaryFile(max_size=bodies.CHUNK_BYTES))
            size, refusal = 0, None
            try:
                if is_verified:
                    self._callers.count_verification(scope[CALLER])
                size = await bodies.read(scope, incoming, body, share)
            except ConnectionAbortedError:
                return
            except Refusal as refused:
                refusal = refused
                held.close()
            headers = bodies.normalized_headers(scope["headers"], size)
            scope = {**scope, "headers": headers, BODY_REFUSAL: refusal}
            if refusal is not None:
                await self._forward(scope, held, bodies.replay(None, None), send)
            elif scope["method"] == "POST" and paths.is_long_poll(scope["path"]):
                try:
                    await self._transfers.send(scope, await self._hold(scope, body, held, incoming), incoming, send)
                except Refusal as refused:
                    await send_refusal(scope, refused, send)
            elif generation_id := sse.generation_of(scope):
                held.close()
                client = sse.Client(scope, incoming, send)

                def request_record(is_open: bool) -> Awaitable[list[Message]]:
                    return self._call(_record_scope(scope, is_open))

                await sse.serve(generation_id, client, request_record, self._subscriptions)
            else:
                await self._forward(scope, held, bodies.replay(body, incoming), send)

    async def _ask_admission(self, scope: Scope, admission: Admission) -> list[Message]:
        """Let Django say whose request this is. Returns its response, which is the answer if it does not."""
        return await self._call(
            {**scope, "headers": bodies.normalized_headers(scope["headers"], 0), ADMISSION: admission}
        )

    async def _forward(self, scope: Scope, held: ExitStack, receive: Receive, send: Send) -> None:
        """Let Django answer the client. While the response is sent, nothing of the request is held."""
        await self._transfers.send(scope, await self._response(scope, held, receive), receive, send)

    async def _response(self, scope: Scope, held: ExitStack, receive: Receive) -> list[Message]:
        with held:
            return await self._call(scope, receive)

    async def _hold(self, scope: Scope, body: IO[bytes], held: ExitStack, receive: Receive) -> list[Message]:
        """Return the response to a submission once its generation is final; nothing if the client disconnects first.

        Raises `RequestRefused` if too many clients are held.
        """
        generation_id: UUID = uuid7()
        preferences = parse_prefer(header(scope, b"prefer"))
        max_wait = _max_wait(preferences)
        deadline = asyncio.get_running_loop().time() + max_wait
        with ExitStack() as subscribed:
            if max_wait:
                subscribed.enter_context(self._subscriptions.held_of(scope[CALLER].key))
            final = subscribed.enter_context(self._subscriptions.final_event(generation_id))
            response = await self._call({**scope, GENERATION_ID: generation_id}, bodies.replay(body, None))
            held.close()
            if response[0]["status"] == 202:
                accepted_id, access = _accepted_id(response), Access(**parse_body(response))
                is_duplicate = accepted_id != generation_id
                if is_duplicate:
                    final = subscribed.enter_context(self._subscriptions.final_event(accepted_id))
                    # The generation may have ended before its event was subscribed to.
                    if await self._is_final(scope, accepted_id):
                        final.set()
                self._subscriptions.hold(accepted_id, final, access)
                if not await _wait(final, receive, deadline):
                    # A duplicate must not cancel the generation of the first request.
                    if preferences.cancel_on_disconnect and not is_duplicate:
                        await self._call(_answer_scope(scope, generation_id, "DELETE"))
                    return []
                answer = await self._answer(_answer_scope(scope, accepted_id, "GET"), deadline)
                response = _with_applied_preferences(preferences, answer)
        return response

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
        """Return Django's whole response. Without `receive` it does not see a disconnect of the client, and finishes."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        async with self._slot(scope):
            await self._django(scope, receive or bodies.replay(None, None), collect)
        return messages

    def _slot(self, scope: Scope) -> AbstractAsyncContextManager[None]:
        if paths.verifies(scope["method"], scope["path"]) and not scope.get(BODY_REFUSAL):
            # All who send such pictures are one caller, so that users never wait for more than two of them.
            return self._slots.slot(paths.VERIFY, has_picture=True)
        has_picture = paths.takes_pictures(scope["method"], scope["path"])
        return self._slots.slot(scope[CALLER].key, has_picture=has_picture)


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


def _record_scope(scope: Scope, is_open: bool) -> Scope:
    """Return the scope of a request for the record behind an event stream: never compressed, never 304."""
    ignored = (b"accept-encoding", b"if-none-match")
    headers = [pair for pair in scope["headers"] if pair[0] not in ignored]
    return {**scope, "method": "GET", "headers": headers, STREAM_IS_OPEN: is_open}


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
