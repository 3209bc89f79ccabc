"""A reverse proxy on loopback that serves a site below a path."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy(ThreadingTCPServer):
    """Passes requests below `prefix` on, each on a connection of its own, and answers 404 to all others.

    It removes the prefix from the path and names it in a header, or passes the path on as it is; `headers` are added. `outside`
    has the paths of all requests that were not below the prefix.
    """

    daemon_threads = True

    def __init__(self, target: str, prefix: str, *, removes: bool, headers: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        address = urlsplit(target)
        self.target = (str(address.hostname), int(address.port or 80))
        self.prefix = prefix
        self.removes = removes
        self.headers = headers
        self.outside: list[str] = []
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"
        self.url = self.origin + prefix


class _Handler(StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        """Serve one connection of a client: one request."""
        line = self.rfile.readline().decode("latin-1")
        if not line:
            return
        method, path, version = line.split(" ")
        if not path.startswith(f"{self.server.prefix}/"):
            self.server.outside.append(path)
            self.wfile.write(_NOT_FOUND)
            return
        headers = "Connection: close\r\n" + self.server.headers
        if self.server.removes:
            path = path.removeprefix(self.server.prefix)
            headers += f"X-Forwarded-Prefix: {self.server.prefix}\r\n"
        with suppress(ConnectionError), socket.create_connection(self.server.target) as site:
            site.sendall(f"{method} {path} {version}{headers}".encode("latin-1"))
            upload = threading.Thread(target=self._send_to, args=[site], daemon=True)
            upload.start()
            try:
                while chunk := site.recv(65536):
                    self.wfile.write(chunk)
            finally:
                self.connection.shutdown(socket.SHUT_RDWR)
                upload.join()

    def _send_to(self, site: socket.socket) -> None:
        with suppress(OSError):
            while chunk := self.rfile.read1(65536):
                site.sendall(chunk)
            # The client has gone, so that the site may stop as well.
            site.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: str, prefix: str, *, removes: bool, headers: str = "") -> Iterator[Proxy]:
    """Run a proxy for the site `target` in a thread of its own."""
    with Proxy(target, prefix, removes=removes, headers=headers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
