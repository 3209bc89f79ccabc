"""A real SMTP server on loopback, which keeps what it is given."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from queue import Queue
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.service import WAIT_SECONDS


class Mailbox:
    """What the server was given, by recipient. `refusal` is its answer to all that it is to refuse, such as `451 later`."""

    def __init__(self) -> None:
        self.received: list[tuple[str, EmailMessage]] = []
        self.refusal = ""

    async def handle_RCPT(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received += [(address, message) for address in envelope.rcpt_tos]
        return "250 OK"

    def take(self) -> list[tuple[str, str, str]]:
        """Return recipient, subject and text of each message, and forget them."""
        taken = [(address, str(message["Subject"]), _text(message)) for address, message in self.received]
        self.received.clear()
        return taken


def _text(message: EmailMessage) -> str:
    content: str = message.get_content()
    return content.replace("\r\n", "\n")


@contextmanager
def smtp_server() -> Iterator[tuple[Mailbox, int]]:
    """Run the server. Yields what it was given, and its port."""
    mailbox = Mailbox()
    started: Queue[tuple[int, Callable[[], object]]] = Queue()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(mailbox, started)))
    thread.start()
    port, stop = started.get(timeout=WAIT_SECONDS)
    try:
        yield mailbox, port
    finally:
        stop()
        thread.join()


async def _serve(mailbox: Mailbox, started: "Queue[tuple[int, Callable[[], object]]]") -> None:
    """Serve until the function is called that this puts into the queue, after the port."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, hostname="localhost"), "127.0.0.1", 0)
    started.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stopped.set)))
    async with server:
        await stopped.wait()
