"""Server-Sent Events about one generation: https://html.spec.whatwg.org/multipage/server-sent-events.html.

The ids are the stream's in Redis, so a client that reconnects continues where it was. Events without an id describe the
current state, and are sent again to a client that reconnects. The last event has an id of its own: browsers reconnect after
it, until the status is 204.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urljoin
from uuid import UUID

from django.core.files.storage import default_storage
from django.urls import set_script_prefix

from accounts.access import Access
from generation.asgi import paths
from generation.asgi.refusals import send_refusal
from generation.asgi.subscriptions import Event, Subscription, Subscriptions
from generation.asgi.types import Message, Receive, Scope, Send, header, parse_body, wait_for_disconnect
from generation.images import encoding, storage
from generation.models import FINAL_STATES, State
from generation.parameters import OutputFormat, Refusal

HEARTBEAT_SECONDS = 15.0
_RECONNECT_MILLISECONDS = 2000

_END_ID = "end"
_ENTRY_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_BODY_HEADERS = frozenset({b"content-type", b"content-length", b"content-encoding", b"etag"})

RequestRecord = Callable[[bool], Awaitable[Sequence[Message]]]
"""Requests from Django the `record` and the `origin` of URLs; without access the response is an error.

The argument says whether the stream is open already.
"""


@dataclass(frozen=True)
class Client:
    """A client that requested an event stream."""

    scope: Scope
    receive: Receive
    send: Send


def generation_of(scope: Scope) -> UUID | None:
    """Return the generation whose events this request asks for; None for any other request."""
    return paths.events_of(scope["path"]) if scope["method"] in ("GET", "HEAD") else None


async def serve(
    generation_id: UUID, client: Client, request_record: RequestRecord, subscriptions: Subscriptions
) -> None:
    """Send events until the generation ends or the client disconnects."""
    with subscriptions.subscribe(generation_id) as subscription:
        response = await request_record(False)
        start = response[0]
        if start["status"] != 200:
            for message in response:
                await client.send(message)
            return
        current = parse_body(response)
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in _BODY_HEADERS]
        if _last_id(client) == _END_ID and current["record"]["state"] in FINAL_STATES:
            await client.send({"type": "http.response.start", "status": 204, "headers": headers})
            await client.send({"type": "http.response.body", "body": b""})
            return
        try:
            subscriptions.admit(generation_id, subscription, Access(**current["access"]))
        except Refusal as refusal:
            await send_refusal(client.scope, refusal, client.send)
            return
        headers += [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await client.send({"type": "http.response.start", "status": 200, "headers": headers})
        if client.scope["method"] == "GET":
            stream = _Stream(generation_id, client, request_record, subscriptions, subscription)
            tasks = [
                asyncio.create_task(stream.run(current)),
                asyncio.create_task(wait_for_disconnect(client.receive)),
            ]
            # A stream may be open for hours: then the record would be most of its memory.
            del response, current
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
        await client.send({"type": "http.response.body", "body": b""})


class _Stream:
    """The events of one generation for one client."""

    def __init__(
        self,
        generation_id: UUID,
        client: Client,
        request_record: RequestRecord,
        subscriptions: Subscriptions,
        subscription: Subscription,
    ) -> None:
        self._id = generation_id
        self._client = client
        self._request_record = request_record
        self._subscriptions = subscriptions
        self._subscription = subscription
        self._origin = ""
        self._created = datetime.min
        self._suffix = ""
        self._last_id = _last_id(client) if _ENTRY_ID.fullmatch(_last_id(client)) else ""
        self._wants_previews = parse_qs(client.scope["query_string"].decode("latin-1")).get("previews") != ["0"]
        self._next_preview_request = 0.0

    async def run(self, current: Mapping[str, Any]) -> None:
        """Send events until the end. `current` is the `record` and the `origin` of URLs when the client connected."""
        self._origin, record = current["origin"], current["record"]
        self._created = datetime.fromisoformat(record["created"])
        self._suffix = encoding.suffix(OutputFormat(record["parameters"]["output_format"]))
        await self._write(f"retry: {_RECONNECT_MILLISECONDS}\n\n")
        is_final = record["state"] in FINAL_STATES
        waiting = record["waiting"]
        events = await self._first_events(record)
        del current, record
        while True:
            for event in events:
                self._last_id = event.id
                if event.name in FINAL_STATES:
                    await self._send_end()
                    return
                if event.name == "image" and not await self._has_access():
                    return
                await self._forward(event)
            if is_final:
                await self._send_end()
                return
            if self._subscription.is_released:
                return
            if self._subscription.waiting is not None:
                current_waiting = self._subscription.waiting.model_dump(mode="json")
                if current_waiting != waiting:
                    waiting = current_waiting
                    await self._send_event("queued", waiting)
            await self._request_previews()
            await self._wait_for_change()
            # Read before the events, so that all events before the end are sent before it.
            is_final = self._subscription.is_final
            events = await self._new_events()

    async def _new_events(self) -> list[Event]:
        """Return the events that have come. Redis is not asked if only what the generation waits for may differ."""
        if not self._subscription.has_events:
            return []
        self._subscription.has_events = False
        return await self._subscriptions.events(self._id, self._last_id)

    async def _has_access(self) -> bool:
        """Return whether the client would be let in now: the poll that releases it may be some seconds away."""
        access = self._subscription.access
        return access is not None and await self._subscriptions.is_valid(access)

    async def _first_events(self, record: Mapping[str, Any]) -> list[Event]:
        """Return the events to send first, after sending the current state if the generation has not ended."""
        is_resumed = bool(self._last_id)
        events = await self._subscriptions.events(self._id, self._last_id)
        if record["state"] in FINAL_STATES and not is_resumed:
            events = events[-1:]
        if record["state"] == State.QUEUED:
            await self._send_event("queued", record["waiting"])
        if not is_resumed:
            events = _latest(events)
        has_started_event = any(event.name == "started" for event in events)
        if record["state"] == State.RUNNING and not is_resumed and not has_started_event:
            await self._send_event("started", {})
        return events

    async def _wait_for_change(self) -> None:
        """Wait until there may be an event, and send a comment from time to time so that the connection stays open."""
        while True:
            try:
                await asyncio.wait_for(self._subscription.changed.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                await self._write(": heartbeat\n\n")
                await self._request_previews()
            else:
                self._subscription.changed.clear()
                return

    async def _request_previews(self) -> None:
        if self._wants_previews and time.monotonic() > self._next_preview_request:
            self._next_preview_request = time.monotonic() + HEARTBEAT_SECONDS
            await self._subscriptions.request_previews(self._id)

    async def _forward(self, event: Event) -> None:
        data = dict(event.data)
        if event.name == "preview" and not self._wants_previews:
            return
        if event.name == "image":
            # The name is made here, so that Redis names no file.
            stem = storage.output_stem(self._id, self._created, data.pop("attempt"), data["index"])
            url = await asyncio.to_thread(_url, f"{stem}{self._suffix}", self._client.scope["root_path"])
            data = {**data, "url": urljoin(self._origin, url)}
        await self._send_event(event.name, data, event.id)

    async def _send_end(self) -> None:
        """Send the last event. If Django cannot answer now, the stream ends without it, and the client reconnects."""
        response = await self._request_record(True)
        if response[0]["status"] == 200:
            record = parse_body(response)["record"]
            await self._send_event(record["state"], record, _END_ID)

    async def _send_event(self, name: str, data: Any, entry_id: str = "") -> None:
        lines = [f"id: {entry_id}"] if entry_id else []
        await self._write("\n".join([*lines, f"event: {name}", f"data: {json.dumps(data)}", "", ""]))

    async def _write(self, text: str) -> None:
        await self._client.send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _last_id(client: Client) -> str:
    return header(client.scope, b"last-event-id").strip()


def _url(name: str, root_path: str) -> str:
    """Return the URL of a file. Django knows where the site is only while it answers a request."""
    set_script_prefix(f"{root_path}/")
    return default_storage.url(name)


def _latest(events: Sequence[Event]) -> list[Event]:
    """Return the last event of each kind, and for previews and images of each index, in order."""
    latest: dict[tuple[str, int], Event] = {}
    for event in events:
        key = (event.name, event.data["index"] if event.name in ("preview", "image") else 0)
        latest.pop(key, None)
        latest[key] = event
    return list(latest.values())
