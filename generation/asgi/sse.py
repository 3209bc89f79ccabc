"""Server-Sent Events about one generation, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them.

The ids are those of the generation's stream in Redis, so that a client that lost its connection goes on where it was. What
has no id is no news but a view of the present, which is told anew to whoever comes again.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urljoin
from uuid import UUID

from django.core.files.storage import default_storage

from generation.asgi import paths
from generation.asgi.subscriptions import (
    Event,
    Subscription,
    Subscriptions,
)
from generation.asgi.types import (
    Message,
    Receive,
    Scope,
    Send,
    disconnected,
    header,
)
from generation.models import FINAL_STATES, State

HEARTBEAT_SECONDS = 15.0
_RETRY_MILLISECONDS = 2000

_ENTRY_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_OF_ONE_ANSWER = frozenset({b"content-type", b"content-length", b"content-encoding", b"etag"})

Ask = Callable[[], Awaitable[Sequence[Message]]]
"""Asks Django for the present: the `origin` of URLs and the `record`, or why this client gets none."""


def followed(scope: Scope) -> UUID | None:
    """Return the generation whose events this request asks for, if it does."""
    return paths.events_of(scope["path"]) if scope["method"] in ("GET", "HEAD") else None


async def serve(
    generation_id: UUID, scope: Scope, receive: Receive, send: Send, ask: Ask, waiters: Subscriptions
) -> None:
    """Answer with events until the end of the generation, or until the client leaves."""
    with waiters.watch(generation_id) as watch:
        answer = await ask()
        if answer[0]["status"] != 200:
            for message in answer:
                await send(message)
            return
        kept = [(name, value) for name, value in answer[0]["headers"] if name.lower() not in _OF_ONE_ANSWER]
        about = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": [*kept, *about]})
        if scope["method"] == "GET":
            stream = _Stream(generation_id, scope, send, ask, waiters, watch)
            tasks = [asyncio.create_task(stream.follow(_present(answer))), asyncio.create_task(disconnected(receive))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            for result in ended:
                if isinstance(result, Exception):
                    raise result
        await send({"type": "http.response.body", "body": b""})


class _Stream:
    """The events of one generation to one client."""

    def __init__(
        self, generation_id: UUID, scope: Scope, send: Send, ask: Ask, waiters: Subscriptions, watch: Subscription
    ) -> None:
        self._id = generation_id
        self._send = send
        self._ask = ask
        self._waiters = waiters
        self._watch = watch
        self._origin = ""
        last = header(scope, b"last-event-id").strip()
        self._last = last if _ENTRY_ID.fullmatch(last) else ""
        self._wants_previews = parse_qs(scope["query_string"].decode("latin-1")).get("previews") != ["0"]
        self._wish_ends = 0.0

    async def follow(self, present: Mapping[str, Any]) -> None:
        self._origin, record = present["origin"], present["record"]
        await self._write(f"retry: {_RETRY_MILLISECONDS}\n\n")
        resumes = bool(self._last)
        news = await self._waiters.news(self._id, self._last)
        has_ended = record["state"] in FINAL_STATES
        if has_ended:
            if not resumes:
                news = news[-1:]
        elif record["state"] == State.QUEUED:
            await self._tell("queued", record["waiting"])
        if not resumes:
            news = _newest(news)
        if record["state"] == State.RUNNING and not resumes and not any(one.event == "started" for one in news):
            await self._tell("started", {})
        told_of_queue = record["waiting"]
        while True:
            for one in news:
                self._last = one.id
                if one.event in FINAL_STATES:
                    await self._conclude()
                    return
                await self._pass_on(one)
            if has_ended:
                await self._conclude()
                return
            if self._watch.is_released:
                return
            if self._watch.queued is not None:
                queued = self._watch.queued.model_dump(mode="json")
                if queued != told_of_queue:
                    told_of_queue = queued
                    await self._tell("queued", queued)
            await self._wish()
            await self._pause()
            # Asked before the news: what came while the last ones were told is told before the end.
            has_ended = self._watch.is_final
            news = await self._waiters.news(self._id, self._last)

    async def _pause(self) -> None:
        """Until there may be news; a sign of life goes out meanwhile."""
        while True:
            try:
                await asyncio.wait_for(self._watch.stirred.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                await self._write(": still here\n\n")
                await self._wish()
            else:
                self._watch.stirred.clear()
                return

    async def _wish(self) -> None:
        if self._wants_previews and time.monotonic() > self._wish_ends:
            self._wish_ends = time.monotonic() + HEARTBEAT_SECONDS
            await self._waiters.want_previews(self._id)

    async def _pass_on(self, one: Event) -> None:
        data = json.loads(one.data)
        if one.event == "preview" and not self._wants_previews:
            return
        if one.event == "image":
            url = await asyncio.to_thread(default_storage.url, data.pop("name"))
            data = {**data, "url": urljoin(self._origin, url)}
        await self._tell(one.event, data, one.id)

    async def _conclude(self) -> None:
        """The last event. Where Django cannot tell the end now the stream just ends, and the client comes again."""
        answer = await self._ask()
        if answer[0]["status"] == 200:
            record = _present(answer)["record"]
            await self._tell(record["state"], record, self._last)

    async def _tell(self, event: str, data: Any, entry_id: str = "") -> None:
        lines = [f"id: {entry_id}"] if entry_id else []
        await self._write("\n".join([*lines, f"event: {event}", f"data: {json.dumps(data)}", "", ""]))

    async def _write(self, text: str) -> None:
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _newest(news: Sequence[Event]) -> list[Event]:
    """What somebody who comes late needs of it: the progress and the previews of the present alone, and all else."""
    newest: dict[tuple[str, int], Event] = {}
    for one in news:
        key = (one.event, json.loads(one.data).get("index", 0) if one.event in ("preview", "image") else 0)
        newest.pop(key, None)
        newest[key] = one
    return list(newest.values())


def _present(answer: Sequence[Message]) -> dict[str, Any]:
    present: dict[str, Any] = json.loads(b"".join(message.get("body", b"") for message in answer[1:]))
    return present
