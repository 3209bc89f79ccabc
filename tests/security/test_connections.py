"""Connections that cost their client nothing: unused ones, and requests that are never finished."""

from contextlib import ExitStack

from tests.support.web_process import WebProcess


def test_unused_connections_stop_nobody(web: WebProcess) -> None:
    with ExitStack() as connections, web.serving_others():
        for _ in range(300):
            connections.enter_context(web.connect())
