"""What ends a connection, on a real socket with shorter times; the attacks on the whole service are in `tests.security`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import uvicorn
from pytest_django import Settings
from uvicorn.server import ServerState

from dreamsite import connections
from generation.asgi.types import Receive, Scope, Send, send_json
from tests.support.service import WAIT_SECONDS

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the number of headers, after the body."""
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    await send_json(send, 200, len(scope["headers"]))


def serve(
    scenario: Callable[[Callable[[], Awaitable[Client]]], Awaitable[None]], *, descriptors: int = 1024, proxy: str = ""
) -> None:
    """Run the scenario, which can connect to a server."""

    async def run() -> None:
        config = uvicorn.Config(answer_headers, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1)
        config.load()
        counted = connections.Connections(descriptors, proxy.__eq__)
        protocol: Any = partial(connections.Connection, counted, config=config, app_state={})
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(lambda: protocol(server_state=state), "127.0.0.1")
        async with asyncio.timeout(WAIT_SECONDS), server:
            await scenario(partial(asyncio.open_connection, *server.sockets[0].getsockname()))

    asyncio.run(run())


async def rest(client: Client) -> bytes:
    """Return all that the server sends until it ends the connection."""
    reader, writer = client
    try:
        return await reader.read()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 0.2)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"GET / HT", b"HTTP/1.1 408 Request Timeout"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 Request Timeout"),
    ],
)
def test_headers_that_do_not_arrive_end_the_connection(sent: bytes, status: bytes) -> None:
    async def scenario(connect: Callable[[], Awaitable[Client]]) -> None:
        client = await connect()
        client[1].write(sent)
        assert (await rest(client)).partition(b"\r\n")[0] == status

    serve(scenario)


def test_an_idle_connection_ends_and_so_does_a_later_request_without_end() -> None:
    async def scenario(connect: Callable[[], Awaitable[Client]]) -> None:
        for later in (b"", b"GET /"):
            client = await connect()
            client[1].write(REQUEST)
            assert b"200 OK" in await client[0].readuntil(b"\r\n\r\n")
            client[1].write(later)
            assert (b" 408 " in await rest(client)) == bool(later)

    serve(scenario)


@pytest.mark.parametrize(
    ("head", "is_refused"),
    [
        (b"GET / HTTP/1.1\r\nPrefer: " + b"a" * 32_000 + b"\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nPrefer: " + b"a" * 33_000 + b"\r\n\r\n", True),
        (b"GET /?" + b"a" * 33_000 + b" HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", True),
        (b"GET / HTTP/1.1\r\nPrefer: " + b"a" * 2_000_000, True),
    ],
    ids=["below", "header", "address", "many", "without end"],
)
def test_headers_may_have_32_kb(head: bytes, is_refused: bool) -> None:
    async def scenario(connect: Callable[[], Awaitable[Client]]) -> None:
        client = await connect()
        client[1].write(head)
        answer = await rest(client)
        assert answer.startswith(b"HTTP/1.1 431 " if is_refused else b"HTTP/1.1 200 "), answer
        assert (b"headers_too_large" in answer) == is_refused

    serve(scenario)


def test_trailers_and_extensions_of_chunks_are_no_way_around() -> None:
    async def scenario(connect: Callable[[], Awaitable[Client]]) -> None:
        post = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await connect()
        client[1].write(post + b"1\r\nx\r\n0\r\nX-Trailer: y\r\n\r\n")
        # The application sees the headers alone.
        assert (await rest(client)).endswith(b"\r\n\r\n1")
        for endless in (b"0\r\nX-Trailer: ", b"1;extension="):
            client = await connect()
            client[1].write(post + endless)
            with suppress(ConnectionError):
                while not client[0].at_eof() and not client[1].is_closing():
                    client[1].write(b"a" * 10_000)
                    await client[1].drain()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(client[0].read(), 0.01)
                assert await client[0].read() == b""
            client[1].close()

    serve(scenario)


def test_an_address_has_so_many_connections_and_all_have_less_than_there_are_descriptors(settings: Settings) -> None:
    settings.CONNECTIONS_PER_ADDRESS = 3

    async def unused(connect: Callable[[], Awaitable[Client]]) -> None:
        clients = [await connect() for _ in range(10)]
        # All have been accepted once the last is answered.
        clients[-1][1].write(REQUEST)
        assert await clients[-1][0].read(12) == b"HTTP/1.1 200"
        for reader, writer in clients[:5]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        for reader, writer in clients[5:-1]:
            writer.write(REQUEST)
            assert await reader.read(12) == b"HTTP/1.1 200"
            writer.close()
        clients[-1][1].close()

    async def count(connect: Callable[[], Awaitable[Client]]) -> int:
        """Return how many of ten connections are served."""
        clients = [await connect() for _ in range(10)]
        for _, writer in clients:
            writer.write(REQUEST)
        answers = [await client[0].read(12) for client in clients]
        assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 429", b""}
        for _, writer in clients:
            writer.close()
        return answers.count(b"HTTP/1.1 200")

    async def three(connect: Callable[[], Awaitable[Client]]) -> None:
        assert await count(connect) == 3
        # Those that have ended count no longer.
        while await count(connect) != 3:
            await asyncio.sleep(0)

    async def five(connect: Callable[[], Awaitable[Client]]) -> None:
        assert await count(connect) == 5

    serve(three)
    # Those that send nothing make room.
    serve(unused, descriptors=connections.RESERVED_DESCRIPTORS + 10, proxy="127.0.0.1")
    serve(five, descriptors=connections.RESERVED_DESCRIPTORS + 10, proxy="127.0.0.1")
    settings.CONNECTIONS_PER_ADDRESS = 0
    # Not all of them, so that one is left for somebody else.
    serve(five, descriptors=connections.RESERVED_DESCRIPTORS + 20)
