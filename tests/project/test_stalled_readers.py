"""Clients that do not read their response, at a real server: uvicorn with the mixin that `manage.py web` uses."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dreamsite import stalled_readers
from generation.asgi.types import Receive, Scope, Send
from tests.support.service import WAIT_SECONDS

_STALL_SECONDS = 1.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

Respond = Callable[[Send], Coroutine[None, None, None]]
Scenario = Callable[[], Coroutine[None, None, None]]


@asynccontextmanager
async def served(respond: Respond) -> AsyncIterator[tuple[socket.socket, asyncio.Event]]:
    """Yield a client that requests the response, with a small buffer, and an event that is set when it is dropped."""
    is_dropped = asyncio.Event()

    class Protocol(stalled_readers.DropStalledReaders, HttpToolsProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            is_dropped.set()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        response = asyncio.create_task(respond(send))
        await is_dropped.wait()
        response.cancel()

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        config = uvicorn.Config(application, http=Protocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, _REQUEST)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                yield client, is_dropped
        finally:
            client.close()
            server.should_exit = True
            await serving


def run(scenario: Scenario) -> None:
    """Run a scenario in the kind of event loop that the server chooses."""
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(scenario())


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def send_for_ever(send: Send) -> None:
    await start(send)
    while True:
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        # To a dropped client it sends nothing, without waiting.
        await asyncio.sleep(0)


async def send_heartbeats(send: Send) -> None:
    """Fill the buffers, and then send a few bytes from time to time, as event streams do."""
    await start(send)
    await send({"type": "http.response.body", "body": bytes(4_000_000), "more_body": True})
    while True:
        await send({"type": "http.response.body", "body": b": heartbeat\n\n", "more_body": True})
        await asyncio.sleep(_STALL_SECONDS / 20)


async def send_whole(send: Send) -> None:
    """Send a response whose end is written without waiting for the client."""
    await start(send)
    await send({"type": "http.response.body", "body": bytes(4_000_000)})


@pytest.mark.parametrize("respond", [send_for_ever, send_heartbeats, send_whole])
def test_a_client_that_reads_nothing_is_dropped(respond: Respond, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalled_readers, "STALL_SECONDS", _STALL_SECONDS)

    async def scenario() -> None:
        async with served(respond) as (_, is_dropped):
            await is_dropped.wait()

    run(scenario)


def test_a_client_that_reads_slowly_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalled_readers, "STALL_SECONDS", _STALL_SECONDS)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with served(send_for_ever) as (client, is_dropped):
            end = loop.time() + 3 * _STALL_SECONDS
            while loop.time() < end:
                assert await loop.sock_recv(client, 4096)
                await asyncio.sleep(0.01)
            assert not is_dropped.is_set()

    run(scenario)
