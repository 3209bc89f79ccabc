"""Inputs fetched from `image_url`: before a worker claims the row, few at a time, and not for nothing."""

import io
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from PIL import Image

from accounts.models import ApiToken
from generation.images import storage
from generation.images.inputs import Inputs
from generation.images.masks import Mask
from generation.jobs import forecast, input_fetches, limits, queue, submission
from generation.library import deletion, files
from generation.maintenance import input_fetcher, reaper
from generation.maintenance.input_fetcher import InputFetcher
from generation.models import Generation, InputFetch, StagedFiles, State, UserShare
from generation.parameters import ErrorCode, ImageToImageParameters
from tests.support.generations import existing, files_of, unnamed_files
from tests.support.jobs import claim
from tests.support.pictures import photo
from tests.support.remotes import WAIT_SECONDS, Server, answer, serving
from tests.support.service import wait_until

PICTURE = photo(64, 64)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "tiny_edit")]


def request(token: ApiToken, url: str, mask: Mask | None = None, **fields: Any) -> Generation:
    parameters = ImageToImageParameters(prompt="make it night", image_url=url, num_inference_steps=2, seed=3, **fields)
    inputs = Inputs(mask=mask)
    return submission.submit(submission.build(submission.Request(token.user, token, parameters, inputs)), inputs)


def small_mask() -> Mask:
    """A mask of a quarter of the width and of the height of `PICTURE`: in that, (16, 16, 32, 32) may change."""
    picture = Image.new("1", (16, 16))
    picture.paste(255, (4, 4, 8, 8))
    return Mask(picture)


def fetch_next() -> None:
    fetch = input_fetches.claim()
    assert fetch
    input_fetcher.run(fetch)


def state_of(generation: Generation) -> tuple[str, str]:
    generation.refresh_from_db()
    return generation.state, generation.error_code


@pytest.fixture
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow addresses of this machine, where the servers of the tests are."""
    monkeypatch.setattr(input_fetcher, "is_allowed", lambda address: True)


@pytest.fixture
def release() -> threading.Event:
    """Lets the server `slow` break its connections off."""
    return threading.Event()


@pytest.fixture
def slow(release: threading.Event, _loopback: None) -> Iterator[Server]:
    """A server that does not answer."""

    def hold(connection: socket.socket) -> None:
        release.wait(WAIT_SECONDS)

    with serving(hold) as server:
        yield server
        release.set()


@pytest.mark.usefixtures("_loopback")
def test_it_is_fetched_before_a_worker_claims_it(alices: ApiToken, client: Client) -> None:
    with serving(answer(PICTURE)) as server:
        waiting = request(alices, server.url)
        assert claim() is None
        assert forecast.of_queued([waiting])[waiting.pk].reason == "Its picture is being fetched from image_url."
        client.force_login(alices.user)
        assert "fetching the picture" in client.get(f"/history/{waiting.pk}/").content.decode()
        assert client.get("/history/").status_code == 200
        fetch_next()
    generation = Generation.objects.get()
    assert claim() == generation
    assert not InputFetch.objects.exists()
    assert (generation.input_format, generation.input_width, generation.input_height) == ("PNG", 64, 64)
    assert Image.open(io.BytesIO(storage.read(str(generation.input.name)))).size == (64, 64)
    assert generation.get_recipe().width == 64
    assert generation.get_recipe().canvas_size == (128, 128)
    assert generation.get_recipe().seeds == (3,)
    assert generation.cost == pytest.approx(waiting.cost / 16)
    assert generation.input_bytes == generation.input.size + generation.input_thumbnail.size
    assert limits.stored_bytes(alices.user) == generation.input_bytes + generation.output_bytes
    assert "was drawn at 128 x 128 pixels and scaled back to 64 x 64" in generation.warnings[-1]
    assert unnamed_files() == []


@pytest.mark.usefixtures("_loopback")
@pytest.mark.parametrize(("padding", "box"), [(None, (0, 0, 64, 64)), (4, (12, 12, 36, 36))])
def test_a_mask_is_fitted_to_what_is_fetched(alices: ApiToken, padding: int | None, box: tuple[int, ...]) -> None:
    with serving(answer(PICTURE)) as server:
        waiting = request(alices, server.url, small_mask(), mask_padding=padding)
        unfitted = waiting.mask_file_names
        assert existing(unfitted) == unfitted
        fetch_next()
    generation = Generation.objects.get()
    assert claim() == generation
    stored = storage.read(str(generation.mask.name))
    mask = Image.open(io.BytesIO(stored))
    assert (mask.mode, mask.size, mask.getbbox()) == ("1", (64, 64), (16, 16, 32, 32))
    assert (generation.mask_sha256, generation.open_share) == (sha256(stored).hexdigest(), 1 / 16)
    recipe = generation.get_recipe()
    assert recipe.inpainting
    assert (recipe.inpainting.box, recipe.result_size) == (box, (64, 64))
    assert generation.warnings[-1] == "The mask of 16 x 16 pixels was fitted to the picture of 64 x 64."
    names = files_of(generation)
    assert existing(names) == names
    assert generation.input_bytes == sum(default_storage.size(name) for name in names)
    assert (existing(unfitted), unnamed_files()) == ([], [])


@pytest.mark.usefixtures("_loopback")
def test_the_mask_of_what_cannot_be_fetched_is_deleted_with_its_request(alices: ApiToken) -> None:
    with serving(answer(b"<html>")) as server:
        failed = request(alices, server.url, small_mask())
        fetch_next()
    assert state_of(failed) == (State.FAILED, ErrorCode.IMAGE_URL_REFUSED)
    names = failed.input_file_names
    assert existing(names) == names == failed.mask_file_names
    assert deletion.delete(failed)
    assert (existing(names), unnamed_files()) == ([], [])


def test_a_private_address_is_refused(alices: ApiToken) -> None:
    with serving(answer(PICTURE)) as server:
        failed = request(alices, server.url)
        fetch_next()
        assert server.connections == 0
    assert state_of(failed) == (State.FAILED, ErrorCode.IMAGE_URL_REFUSED)
    assert (limits.stored_bytes(alices.user), InputFetch.objects.count()) == (0, 0)


@pytest.mark.usefixtures("_loopback")
def test_a_url_without_a_picture_is_refused(alices: ApiToken) -> None:
    with serving(answer(b"<html>")) as server:
        failed = request(alices, server.url)
        fetch_next()
    assert state_of(failed) == (State.FAILED, ErrorCode.IMAGE_URL_REFUSED)
    assert failed.error_message.startswith("The picture at image_url was refused: ")


def test_four_slow_servers_of_one_user_delay_nobody(
    alices: ApiToken, bobs: ApiToken, slow: Server, release: threading.Event
) -> None:
    fetcher = InputFetcher()
    rows = [request(alices, slow.url) for _ in range(4)]
    fetcher.start_due()
    wait_until(lambda: slow.connections == 2, "two fetches")
    with serving(answer(PICTURE)) as fast:
        bob = request(bobs, fast.url)
        fetcher.start_due()
        wait_until(lambda: bool(Generation.objects.get(pk=bob.pk).input), "bob's picture")
    assert claim() == bob
    fetcher.start_due()
    assert slow.connections == 2
    assert InputFetch.objects.filter(attempt=0).count() == 2
    # Canceling frees no place before the fetch is over: else who cancels has as many as they like.
    for row in rows:
        assert queue.cancel(row)
    more = [request(alices, slow.url) for _ in range(2)]
    fetcher.start_due()
    assert (slow.connections, InputFetch.objects.count()) == (2, 4)
    for row in more:
        queue.cancel(row)
    release.set()
    wait_until(lambda: not InputFetch.objects.exists(), "the end of the fetches")
    assert {state_of(row)[0] for row in (*rows, *more)} == {State.CANCELED}


def test_all_fetches_are_bounded(alices: ApiToken, bobs: ApiToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_fetches, "MAX_FETCHES", 3)
    for token in (alices, alices, bobs, bobs):
        request(token, "https://example.org/x.png")
    assert [bool(input_fetches.claim()) for _ in range(4)] == [True, True, True, False]


def test_the_user_with_the_least_usage_is_next(alices: ApiToken, bobs: ApiToken) -> None:
    for token in (alices, bobs):
        request(token, "https://example.org/x.png")
    input_fetches.charge(alices.user, 20.0)
    fetch = input_fetches.claim()
    assert fetch
    assert fetch.generation.user == bobs.user


@pytest.mark.usefixtures("_loopback")
@pytest.mark.parametrize("content", [PICTURE, b"<html>"])
def test_the_time_of_a_fetch_is_usage_whatever_came_of_it(alices: ApiToken, content: bytes) -> None:
    with serving(answer(content)) as server:
        request(alices, server.url)
        assert UserShare.objects.get(user=alices.user).decayed_usage == 0
        fetch_next()
    assert UserShare.objects.get(user=alices.user).decayed_usage > 0


@pytest.mark.usefixtures("_loopback")
def test_the_fetch_of_a_process_that_died_is_done_by_another(alices: ApiToken) -> None:
    waiting = request(alices, "https://example.org/x.png")
    lost = input_fetches.claim()
    assert lost
    assert input_fetches.claim() is None
    InputFetch.objects.update(lease_expires=timezone.now() - timedelta(seconds=1))
    with serving(answer(PICTURE)) as server:
        Generation.objects.update(parameters={**waiting.parameters, "image_url": server.url})
        fetch_next()
        # The first was only slow: what it fetched is dropped, and changes nothing.
        before = Generation.objects.get()
        lost.generation.parameters["image_url"] = server.url
        input_fetcher.run(lost)
    after = Generation.objects.get()
    assert (after.state, after.input.name) == (State.QUEUED, before.input.name)
    assert claim() == after
    # Or it died while it stored its files.
    name = f"inputs/lost/{waiting.pk}.webp"
    files.stage([name], lost)
    default_storage.save(name, io.BytesIO(b"half"))
    StagedFiles.objects.update(created=timezone.now() - timedelta(hours=1))
    reaper.reap()
    assert not default_storage.exists(name)
    assert default_storage.exists(str(after.input.name))
    assert unnamed_files() == []


def test_a_fetch_that_kills_its_process_three_times_fails(alices: ApiToken) -> None:
    waiting = request(alices, "https://example.org/x.png")
    for _ in range(3):
        assert input_fetches.claim()
        InputFetch.objects.update(lease_expires=timezone.now() - timedelta(seconds=1))
    fetch_next()
    assert state_of(waiting) == (State.FAILED, ErrorCode.INTERNAL)
    assert "interrupted three times" in waiting.error_message
    assert not InputFetch.objects.exists()


def test_a_stopping_process_leaves_its_fetches_to_others_at_once(
    alices: ApiToken, slow: Server, release: threading.Event
) -> None:
    fetcher = InputFetcher()
    request(alices, slow.url)
    fetcher.start_due()
    wait_until(lambda: slow.connections == 1, "the fetch")
    fetcher.release_all()
    again = input_fetches.claim()
    assert again
    assert again.attempt == 2
    release.set()
    wait_until(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()), "the end of the first")
    assert state_of(again.generation)[0] == State.QUEUED


def test_a_canceled_request_is_not_fetched(alices: ApiToken) -> None:
    waiting = request(alices, "https://example.org/x.png")
    assert queue.cancel(waiting)
    assert not InputFetch.objects.exists()
    assert limits.stored_bytes(alices.user) == 0
