"""`manage.py web`: one web process."""

import asyncio
import socket
from argparse import ArgumentParser
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand
from django.urls import get_resolver

_GRACE_SECONDS = 0.5


class Command(BaseCommand):
    help = "Serve HTTP on HOST and PORT, or on a listening socket that the parent process opened."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--fd", type=int, help="File descriptor of a listening socket.")

    def handle(self, *args: Any, fd: int | None, **options: Any) -> None:
        from dreamsite.asgi import application, long_poll
        from dreamsite.connections import IDLE_SECONDS, Connection, Connections, raise_descriptor_limit
        from generation.images import decoder
        from generation.jobs.periodic import counters_flushed

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                # Answer held clients while the server still can.
                long_poll.release_clients()
                super().handle_exit(sig, frame)

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # Uvicorn would reset open connections whose request has not arrived yet.
                for server in self.servers:
                    server.close()
                await asyncio.sleep(_GRACE_SECONDS)
                await super().shutdown(sockets)

        # All pages are imported now, or the first request would wait for it.
        _ = get_resolver().url_patterns
        decoder.start()
        connections = Connections(raise_descriptor_limit(), application.is_trusted_proxy)
        config = uvicorn.Config(
            application,
            host=settings.HOST,
            port=settings.PORT,
            http=partial(Connection, connections),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # The application reads the headers of proxies itself.
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=10,
        )
        with counters_flushed():
            Server(config).run(sockets=[socket.socket(fileno=fd)] if fd is not None else None)
