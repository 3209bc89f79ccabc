"""A full disk: requests are refused, workers start nothing, and the rest works on."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import ApiToken, User
from generation.images import disk
from generation.images.disk import DiskFull
from generation.images.inputs import Inputs
from generation.jobs import forecast, submission
from generation.models import Generation
from generation.parameters import ErrorCode, ImageToImageParameters
from tests.support.generations import make_generation, unnamed_files
from tests.support.jobs import claim, submit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis", "tiny_edit")]


def test_nothing_is_accepted_or_started(alices: ApiToken, settings: Settings) -> None:
    waiting = submit(alices)
    settings.MIN_FREE_DISK = 1.0  # more than is ever free
    with pytest.raises(DiskFull) as error:
        submit(alices)
    assert (error.value.code, error.value.headers["Retry-After"]) == (ErrorCode.DISK_FULL, "300")
    parameters = ImageToImageParameters(prompt="make it night")
    draft = submission.build(submission.Request(alices.user, alices, parameters, Inputs()))
    with pytest.raises(DiskFull):
        submission.estimate(draft)
    assert (Generation.objects.count(), unnamed_files()) == (1, [])
    # What was accepted goes on until half of that is left.
    free = disk.data_disks()[0].free / disk.data_disks()[0].total
    settings.MIN_FREE_DISK = min(1.0, 1.9 * free)
    assert not disk.is_full()
    assert claim() == waiting


def test_workers_start_nothing_on_a_full_disk_and_the_page_says_why(alices: ApiToken, settings: Settings) -> None:
    waiting = submit(alices)
    settings.MIN_FREE_DISK = 4.0  # twice of what a disk can have free
    assert claim() is None
    assert "disk of the service is full" in forecast.of_queued([waiting])[waiting.pk].reason
    settings.MIN_FREE_DISK = 0.0
    assert claim() == waiting


def test_pictures_are_served_and_readiness_tells(client: Client, alice: User, settings: Settings) -> None:
    generation = make_generation(alice)
    settings.MIN_FREE_DISK = 1.0
    client.force_login(alice)
    assert client.get("/history/").status_code == 200
    assert client.get(generation.input.url).status_code == 200
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert "disk" in ready.json()["missing"]
