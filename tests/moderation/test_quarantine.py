"""Quarantine: earlier links of a confirmed picture stop working, its files stay, and an undo restores it."""

from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from PIL import Image

from accounts.models import User
from generation.images import storage
from generation.library import deletion
from generation.maintenance import reaper
from generation.models import GeneratedImage, StagedFiles
from generation.models.review import Reason, Review
from generation.moderation import quarantine, review
from tests.support.generations import make_generation, unnamed_files


def confirm(image: GeneratedImage, by: User) -> GeneratedImage:
    review.decide(image, by, Review.CONFIRMED, Reason.NUDITY)
    image.refresh_from_db()
    return image


def is_grey(content: bytes) -> bool:
    return len(Image.open(BytesIO(content)).convert("RGB").resize((8, 8)).getcolors() or []) == 1


@pytest.mark.parametrize("setting", ["owner", "blur", "block"])
def test_earlier_links_stop_working_and_the_picture_is_stored(
    client: Client, alice: User, dora: User, settings: Any, setting: str
) -> None:
    settings.CONFIRMED_PICTURES = setting
    image: GeneratedImage = make_generation(alice, flagged=[0]).images.get()
    pixels, size = storage.read(str(image.file.name)), (image.width, image.height)
    before = [image.file.url, image.thumbnail.url]
    assert [client.get(url).status_code for url in before] == [200, 200]

    confirm(image, dora)
    assert [client.get(url).status_code for url in before] == [404, 404]
    served = client.get(image.file.url).getvalue()
    assert (served == pixels) == (setting == "owner")
    assert is_grey(served) == (setting == "block")
    assert client.get(image.thumbnail.url).status_code == 200
    assert storage.read(image.original_names[0]) == pixels
    assert not GeneratedImage.objects.shown_to_strangers().exists()
    assert unnamed_files() == []
    client.force_login(dora)
    assert client.get(f"/admin/review/{image.pk}/result").content == pixels

    after = image.file.url
    files = image.file_names
    review.undo(dora)
    image.refresh_from_db()
    assert (image.original.name, image.quarantined) == ("", None)
    assert GeneratedImage.objects.shown_to_strangers().get() == image
    assert storage.read(str(image.file.name)) == pixels
    assert (client.get(after).status_code == 200) == (setting == "owner")
    assert sum(default_storage.exists(name) for name in files) == 2
    assert size == (image.width, image.height)
    assert unnamed_files() == []


def test_the_reaper_retries_when_the_storage_was_away(alice: User, dora: User, redis: None, settings: Any) -> None:
    settings.CONFIRMED_PICTURES = "blur"
    image: GeneratedImage = make_generation(alice, flagged=[0]).images.get()
    name = str(image.file.name)
    pixels = storage.read(name)
    # The storage is away: a directory stands where the file was.
    path = settings.MEDIA_ROOT / name
    away = path.rename(path.with_suffix(".away"))
    confirm(image, dora)
    assert (image.nsfw, image.quarantined) == (True, None)
    assert not GeneratedImage.objects.shown_to_strangers().exists()
    away.rename(path)
    reaper.reap()
    image.refresh_from_db()
    assert image.quarantined
    assert not default_storage.exists(name)
    assert storage.read(image.original_names[0]) == pixels
    reaper.reap()
    assert GeneratedImage.objects.get().file == image.file


def test_files_of_a_move_that_died_are_swept(alice: User, dora: User, redis: None, monkeypatch: Any) -> None:
    image: GeneratedImage = make_generation(alice, flagged=[0]).images.get()
    monkeypatch.setattr("generation.moderation.quarantine._swap", None)
    with pytest.raises(TypeError):
        quarantine._move_out(image)
    monkeypatch.undo()
    note = StagedFiles.objects.get()
    assert all(default_storage.exists(name) for name in note.names)
    reaper.reap()
    assert StagedFiles.objects.filter(pk=note.pk).exists()
    StagedFiles.objects.update(created=timezone.now() - timedelta(hours=1))
    reaper.reap()
    assert not any(default_storage.exists(name) for name in note.names)
    assert default_storage.exists(str(image.file.name))


def test_deletion_includes_quarantined_files(alice: User, dora: User, redis: None, settings: Any) -> None:
    settings.CONFIRMED_PICTURES = "block"
    image = confirm(make_generation(alice, flagged=[0]).images.get(), dora)
    assert len(image.file_names) == 4
    deletion.delete(image.generation)
    assert not any(default_storage.exists(name) for name in image.file_names)
    quarantine.apply_all()
