"""Files that nginx sends in place of the web process."""

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from generation.images import storage
from generation.library import sharing
from tests.support.generations import make_generation

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
