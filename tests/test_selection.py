"""Doing things with one's generations: favourites, the trash and a zip, for one and for many."""

import io
import json
import zipfile
from pathlib import PurePosixPath
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation import archive, media
from generation.models import Generation, State
from tests.generations import make_generation


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def favourite(generation: Generation) -> str:
    return reverse("favourite", args=[generation.pk])


def is_favourite(generation: Generation) -> bool:
    generation.refresh_from_db()
    return generation.is_favourite


def test_a_favourite_is_made_and_unmade(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    answer = signed_in.post(favourite(generation))
    assert answer["Location"] == reverse("generation", args=[generation.pk])
    assert is_favourite(generation)
    answer = signed_in.post(favourite(generation), {"next": "/history/?q=night"})
    assert answer["Location"] == "/history/?q=night"
    assert not is_favourite(generation)


def test_a_page_that_stays_gets_the_button_alone(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    for pressed in ("true", "false"):
        answer = signed_in.post(favourite(generation), headers={"HX-Request": "true"})
        assert f'aria-pressed="{pressed}"' in answer.content.decode()
        assert b"<html" not in answer.content


@pytest.mark.parametrize(
    "page", ["https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)", "/\\x.y"]
)
def test_nobody_is_sent_elsewhere(signed_in: Client, alice: User, page: str) -> None:
    generation = make_generation(alice)
    answer = signed_in.post(favourite(generation), {"next": page})
    assert answer["Location"] == reverse("generation", args=[generation.pk])


def test_others_make_no_favourites_of_ones_own(client: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice)
    assert client.post(favourite(generation))["Location"].startswith(reverse("sign-in"))
    client.force_login(bob)
    assert client.post(favourite(generation)).status_code == 404
    assert client.get(favourite(generation)).status_code == 405
    assert client.post(reverse("favourite", args=[uuid4()])).status_code == 404
    assert not is_favourite(generation)


def test_an_archive_holds_every_picture_and_its_recipe(alice: User) -> None:
    first = make_generation(alice, num_images_per_prompt=2, flagged=[1], negative_prompt="people")
    Generation.objects.filter(pk=first.pk).update(title="Städte bei Nacht", note="for the wall")
    failed = make_generation(alice, State.FAILED, prompt="!!!")
    rows = Generation.objects.filter(user=alice).prefetch_related("images").order_by("pk")
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.zipped(rows)))) as file:
        assert file.testzip() is None
        told = json.loads(file.read(archive.RECIPES))
        names = set(file.namelist())
        one, two = told["generations"]
        assert names == {
            archive.RECIPES,
            one["input"]["file"],
            two["input"]["file"],
            *(i["file"] for i in one["images"]),
        }
        stem = f"{first.created:%Y-%m-%d}-stadte-bei-nacht-{first.pk.hex[-8:]}"
        assert one["images"][1]["file"] == f"{stem}-2.png"
        assert file.read(f"{stem}-1.png") == media.read(str(first.images.all()[0].file))
    assert (one["id"], one["title"], one["note"]) == (str(first.pk), "Städte bei Nacht", "for the wall")
    assert one["seeds"] == [1207, 1208]
    assert one["parameters"]["negative_prompt"] == "people"
    assert one["effective"]["width"] == 192
    assert [image["nsfw"] for image in one["images"]] == [False, True]
    assert one["timings"]["phases"]["denoising"] == 1.9
    assert (two["state"], two["images"], two["error"]["code"]) == ("failed", [], "out_of_memory")
    assert f"{failed.pk.hex[-8:]}-input.webp" in two["input"]["file"]
    assert all(PurePosixPath(name).name == name for name in names)
    assert told["missing"] == []


def test_a_picture_that_is_gone_is_named_as_missing(alice: User) -> None:
    generation = make_generation(alice)
    default_storage.delete(str(generation.images.get().file))
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.zipped([generation])))) as file:
        told = json.loads(file.read(archive.RECIPES))
        assert told["missing"] == [told["generations"][0]["images"][0]["file"]]
        assert told["missing"][0] not in file.namelist()
