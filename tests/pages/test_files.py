"""Files that nginx sends in place of the web process."""

from pathlib import Path

import httpx
import pytest
from django.core.files.storage import default_storage
from django.test import Client
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.images import storage
from generation.library import sharing
from tests.support.generations import make_generation
from tests.support.nginx import needs_nginx, nginx

pytestmark = pytest.mark.django_db


def test_nginx_is_told_where_a_file_is(alice: User, client: Client, settings: Settings) -> None:
    settings.X_ACCEL_REDIRECT = True
    image = make_generation(alice).images.get()
    response = client.get(image.file.url)
    assert response["X-Accel-Redirect"] == f"/stored-files/{image.file.name}"
    assert (response.content, response["Content-Type"]) == (b"", "image/png")
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert client.get(image.file.url.replace("signature=", "signature=0")).status_code == 404
    code = sharing.share(image.generation, 0, None).code
    assert client.get(f"/s/{code}/picture")["X-Accel-Redirect"] == f"/stored-files/{image.file.name}"


def test_a_client_cannot_choose_the_file(alice: User, client: Client) -> None:
    image = make_generation(alice).images.get()
    secret = storage.store("test/secret.txt", b"secret")
    response = client.get(image.file.url, headers={"X-Accel-Redirect": f"/stored-files/{secret}"})
    assert "X-Accel-Redirect" not in response
    assert response.getvalue() == storage.read(str(image.file.name))
    assert client.get(f"/stored-files/{secret}").status_code == 404


def test_a_file_in_the_database_alone_is_404(alice: User, client: Client) -> None:
    image = make_generation(alice).images.get()
    default_storage.delete(str(image.file.name))
    assert client.get(image.file.url).status_code == 404


@needs_nginx
def test_nginx_sends_what_the_web_process_would(
    alice: User, live_server: LiveServer, settings: Settings, tmp_path: Path
) -> None:
    image = make_generation(alice).images.get()
    secret = storage.store("test/secret.txt", b"secret")
    with (
        nginx(tmp_path, live_server.url.removeprefix("http://"), stored_files=Path(settings.MEDIA_ROOT)) as url,
        httpx.Client(base_url=url) as client,
    ):
        own = client.get(image.file.url)
        settings.X_ACCEL_REDIRECT = True
        response = client.get(image.file.url)
        assert response.content == own.content == storage.read(str(image.file.name))
        missing = {name for name, value in own.headers.items() if response.headers.get(name) != value}
        # The time that remains is part of the last.
        assert missing <= {"date", "x-request-id", "cache-control"}
        assert response.headers["Cache-Control"].startswith("private, max-age=")
        assert "x-accel-redirect" not in response.headers
        assert client.get(image.file.url, headers={"Range": "bytes=1-3"}).content == own.content[1:4]
        for path in (f"/stored-files/{secret}", f"//stored-files/{secret}"):
            assert client.get(url + path).status_code == 404
        told = client.get(image.file.url, headers={"X-Accel-Redirect": f"/stored-files/{secret}"})
        assert told.content == own.content
