"""Clients that request much and read nothing of it: files by signed addresses, static files, archives."""

import io
import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.support.environment import ROOT
from tests.support.web_process import WebProcess

FILE_BYTES = 8_000_000
READERS = 60
MAX_BYTES_EACH = 1_000_000
"""What an unread response may cost. Whole in memory, the file alone would take eight times as much."""
MAX_THREADS = 20

_CREATE = f"""
import json, os
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from accounts.models import User
from tests.support.generations import make_generation
generation = make_generation(User.objects.get(username="alice"))
image = generation.images.get()
image.file = default_storage.save(f"test/{{generation.pk}}/large.png", ContentFile(os.urandom({FILE_BYTES})))
image.save()
print(json.dumps([str(generation.pk), image.file.url]))
"""


@pytest.fixture(scope="module")
def large(web: WebProcess) -> tuple[str, str]:
    """The id of a generation of alice with a file of `FILE_BYTES`, and the signed address of the file."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", _CREATE]
    finished = subprocess.run(command, cwd=ROOT, env=web.environment, stdout=subprocess.PIPE, text=True, check=True)
    generation_id, address = json.loads(finished.stdout)
    return generation_id, address


@contextmanager
def unread(web: WebProcess, request: bytes) -> Iterator[list[int]]:
    """Send a request on `READERS` connections, read no more than the status of each response, and yield all."""
    with ExitStack() as stack:
        connections = []
        for _ in range(READERS):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(web.address)
            connection.sendall(request)
            connections.append(connection)
        yield [int(connection.recv(12).split()[1]) for connection in connections]


@contextmanager
def bounded(web: WebProcess, number: int) -> Iterator[None]:
    """Check that so many responses take little memory and no threads of their own, and that others are served."""
    # The first of their kind loads what all of them need.
    threads, memory = web.threads(), web.memory()
    with web.serving_others():
        yield
        assert web.threads() - threads <= MAX_THREADS
        assert web.memory() - memory < number * MAX_BYTES_EACH + 20_000_000


def test_a_file_that_nobody_reads_is_not_in_memory(web: WebProcess, large: tuple[str, str]) -> None:
    with web.client() as client:
        response = client.get(large[1])
    assert (len(response.content), response.headers["Content-Length"]) == (FILE_BYTES, str(FILE_BYTES))
    request = f"GET {large[1]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with bounded(web, READERS), unread(web, request) as statuses:
        assert statuses.count(200) == 32
        assert statuses.count(429) == READERS - 32


def test_static_files_that_nobody_reads_are_not_in_memory(web: WebProcess) -> None:
    path = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    with web.client() as client:
        assert len(client.get(path, headers={"Accept-Encoding": "identity"}).content) > 1_000_000
        assert client.get(path, headers={"Range": "bytes=0-9"}).status_code == 206
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with bounded(web, READERS // 2), unread(web, request) as statuses:
        assert set(statuses) == {200}


def test_a_user_downloads_a_few_archives_at_a_time(web: WebProcess, large: tuple[str, str]) -> None:
    with closing(web.browser("alice")) as browser:
        browser.get("/history/")
        form = {"action": "download", "id": large[0], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        request = browser.build_request("POST", "/history/selection", data=form, headers={"Referer": web.url})
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        request.headers["Cookie"] = cookies
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        raw = f"POST /history/selection HTTP/1.1\r\n{head}\r\n".encode() + request.read()
        with bounded(web, 4), unread(web, raw) as statuses:
            assert statuses.count(200) == 4
            assert statuses.count(429) == READERS - 4
            refused = browser.post("/history/selection", data=form, headers={"Referer": web.url})
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
            assert "Too many downloads at a time" in refused.text
        while (response := browser.post("/history/selection", data=form)).status_code == 429:
            pass
        with zipfile.ZipFile(io.BytesIO(response.content)) as file:
            assert file.testzip() is None
            assert max(entry.file_size for entry in file.infolist()) == FILE_BYTES
