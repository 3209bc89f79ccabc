"""Drop clients that read nothing of their response, which would occupy memory for as long as they like."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

STALL_SECONDS = 60.0
"""How long a client may read nothing while it is sent something: a mobile phone that changes its network needs less."""

_MAX_UNSENT_BYTES = 128 * 1024
"""What the kernel buffers of what the client cannot take yet. It would be megabytes; what is under way does not count."""


class DropStalledReaders(asyncio.Protocol):
    """A mixin for a protocol of uvicorn, before it in the order of bases.

    Nothing is written to a connection while it has unsent data, so that a stalled client costs a part of one message. Then
    that part only becomes smaller, and if it does not for `STALL_SECONDS`, the connection is aborted.
    """

    transport: asyncio.Transport
    _check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        connection = transport.get_extra_info("socket")
        # Unix sockets do not have it.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_check()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._check_later(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._cancel_check()
        super().resume_writing()

    def _check_later(self, unsent: int) -> None:
        self._cancel_check()
        self._check = asyncio.get_running_loop().call_later(STALL_SECONDS, self._drop_if_stalled, unsent)

    def _cancel_check(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _drop_if_stalled(self, unsent: int) -> None:
        current = self.transport.get_write_buffer_size()
        if current < unsent:
            self._check_later(current)
        else:
            self.transport.abort()
