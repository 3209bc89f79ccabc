"""Responses under different settings."""

import base64
import io

import pytest
from django.test import Client
from PIL import Image
from pytest_django import Settings

from accounts.models import User
from generation.api.responses import generation_response
from generation.models import State
from tests.support.generations import make_generation


def test_pictures_can_be_data_urls(alice: User, settings: Settings) -> None:
    settings.IMAGE_URLS = "data"
    response = generation_response(make_generation(alice), lambda url: f"https://dreams.example{url}")
    head, _, data = response.data["images"][0]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (96, 64)


def test_signed_urls_expire(alice: User, client: Client, settings: Settings) -> None:
    url = make_generation(alice).images.get().file.url
    assert client.get(url).status_code == 200
    settings.URL_EXPIRY_SECONDS = -3600
    assert client.get(make_generation(alice).images.get().file.url).status_code == 404


@pytest.mark.parametrize(
    ("state", "status"), [(State.QUEUED, 202), (State.RUNNING, 202), (State.SUCCEEDED, 200), (State.FAILED, 500)]
)
def test_each_state_has_its_response(alice: User, state: State, status: int) -> None:
    generation = make_generation(alice, state)
    response = generation_response(generation, lambda url: f"https://dreams.example{url}")
    assert response.status_code == status
    assert response["X-Generation-Id"] == str(generation.pk)
    if status == 202:
        assert response["Location"] == f"https://dreams.example/generations/{generation.pk}"
