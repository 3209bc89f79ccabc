"""Actions on the user's generations: favourites, trash and zip, for one and for several."""

import io
import json
import re
import zipfile
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.images import storage
from generation.library import archive
from generation.models import Generation, State
from generation.pages import bulk_actions
from tests.support.generations import half_mask, make_generation
from tests.support.pictures import scene


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def favourite(generation: Generation) -> str:
    return reverse("favourite", args=[generation.pk])


def is_favourite(generation: Generation) -> bool:
    generation.refresh_from_db()
    return generation.is_favourite


def test_all_that_match_are_selected(signed_in: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, *others = (make_generation(alice, prompt=f"number {number}") for number in range(4))
    cat = make_generation(alice, prompt="a cat")
    fields = signed_in.get(reverse("matching"), {"q": "number"}).content.decode()
    ids = re.findall(r'<input type="hidden" name="unseen_id" value="([^"]+)">', fields)
    assert ids == [str(row.pk) for row in (*reversed(others), shown)]
    answer = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": str(shown.pk), "unseen_id": ids},
        headers={"HX-Request": "true"},
    )
    # Only what is on the page is rendered.
    page = answer.content.decode()
    assert re.findall(r'id="tile-([^"]+)"', page) == [str(shown.pk)]
    assert "4 are now favourites." in page
    assert [is_favourite(row) for row in (shown, *others, cat)] == [True] * 4 + [False]
    monkeypatch.setattr(bulk_actions, "MAX_SELECTED", 2)
    cut = signed_in.get(reverse("matching"), {"q": "number", "sort": "oldest"}).content.decode()
    assert re.findall(r'value="([^"]+)"', cut) == [str(shown.pk), str(others[0].pk)]
    assert "the oldest 2, the most at once" in cut


def test_a_favourite_is_toggled(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    answer = signed_in.post(favourite(generation))
    assert answer["Location"] == reverse("generation", args=[generation.pk])
    assert is_favourite(generation)
    answer = signed_in.post(favourite(generation), {"next": "/history/?q=night"})
    assert answer["Location"] == "/history/?q=night"
    assert not is_favourite(generation)


def test_htmx_gets_the_button_only(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    for pressed in ("true", "false"):
        answer = signed_in.post(favourite(generation), headers={"HX-Request": "true"})
        assert f'aria-pressed="{pressed}"' in answer.content.decode()
        assert b"<html" not in answer.content


@pytest.mark.parametrize(
    "page", ["https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)", "/\\x.y"]
)
def test_redirects_stay_on_the_site(signed_in: Client, alice: User, page: str) -> None:
    generation = make_generation(alice)
    answer = signed_in.post(favourite(generation), {"next": page})
    assert answer["Location"] == reverse("generation", args=[generation.pk])


def test_other_users_cannot_change_favourites(client: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice)
    assert client.post(favourite(generation))["Location"].startswith(reverse("sign-in"))
    client.force_login(bob)
    assert client.post(favourite(generation)).status_code == 404
    assert client.get(favourite(generation)).status_code == 405
    assert client.post(reverse("favourite", args=[uuid4()])).status_code == 404
    assert not is_favourite(generation)


def test_an_archive_holds_every_picture_and_its_recipe(alice: User) -> None:
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 48)]}
    first = make_generation(alice, num_images_per_prompt=2, flagged=[1], negative_prompt="people", **inputs)
    Generation.objects.filter(pk=first.pk).update(title="Städte bei Nacht", note="for the wall")
    failed = make_generation(alice, State.FAILED, prompt="!!!")
    rows = Generation.objects.filter(user=alice).prefetch_related("images", "references").order_by("pk")
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.stream_zip(rows)))) as file:
        assert file.testzip() is None
        recipes = json.loads(file.read(archive.RECIPES))
        names = set(file.namelist())
        one, two = recipes["generations"]
        assert names == {
            archive.RECIPES,
            one["input"]["file"],
            one["mask"]["file"],
            one["further_inputs"][0]["file"],
            two["input"]["file"],
            *(i["file"] for i in one["images"]),
        }
        stem = f"{first.created:%Y-%m-%d}-stadte-bei-nacht-{first.pk.hex[-8:]}"
        assert one["images"][1]["file"] == f"{stem}-2.png"
        assert file.read(f"{stem}-mask.png") == storage.read(str(first.mask))
        assert file.read(f"{stem}-input-2.webp") == storage.read(str(first.references.get().file))
        assert file.read(f"{stem}-1.png") == storage.read(str(first.images.all()[0].file))
    assert (one["id"], one["title"], one["note"]) == (str(first.pk), "Städte bei Nacht", "for the wall")
    assert one["mask"]["open_share"] == 0.5
    assert (one["further_inputs"][0]["width"], one["further_inputs"][0]["height"]) == (32, 48)
    assert (two["mask"], two["further_inputs"]) == (None, [])
    assert one["seeds"] == [1207, 1208]
    assert one["parameters"]["negative_prompt"] == "people"
    assert one["effective"]["width"] == 96
    assert [image["nsfw"] for image in one["images"]] == [False, True]
    assert one["timings"]["phases"]["denoising"] == 1.9
    assert (two["state"], two["images"], two["error"]["code"]) == ("failed", [], "out_of_memory")
    assert f"{failed.pk.hex[-8:]}-input.webp" in two["input"]["file"]
    assert all(PurePosixPath(name).name == name for name in names)
    assert recipes["missing"] == []


def test_a_missing_picture_is_listed_as_missing(alice: User) -> None:
    generation = make_generation(alice)
    default_storage.delete(str(generation.images.get().file))
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.stream_zip([generation])))) as file:
        recipes = json.loads(file.read(archive.RECIPES))
        assert recipes["missing"] == [recipes["generations"][0]["images"][0]["file"]]
        assert recipes["missing"][0] not in file.namelist()


def apply(client: Client, action: str, *generations: Generation, **fields: Any) -> Any:
    return client.post(
        reverse("selection"), {"action": action, "id": [str(generation.pk) for generation in generations], **fields}
    )


def test_a_selection_becomes_favourites(signed_in: Client, alice: User) -> None:
    generations = [make_generation(alice) for _ in range(3)]
    answer = apply(signed_in, "favourite", *generations[:2], next="/history/?q=night")
    assert answer["Location"] == "/history/?q=night"
    assert [is_favourite(generation) for generation in generations] == [True, True, False]
    assert b"2 are now favourites." in signed_in.get("/history/").content
    apply(signed_in, "not-favourite", *generations)
    assert [is_favourite(generation) for generation in generations] == [False, False, False]


def test_a_selection_is_trashed_except_unfinished_ones(signed_in: Client, alice: User) -> None:
    generations = [make_generation(alice), make_generation(alice), make_generation(alice, State.RUNNING)]
    assert apply(signed_in, "delete", *generations)["Location"] == "/history/"
    page = signed_in.get("/history/").content.decode()
    assert reverse("trash") in page
    assert "One has not ended yet" in page
    remaining = Generation.objects.owned_by(alice)
    assert list(remaining) == [generations[2]]


def test_htmx_gets_the_changed_tiles_only(signed_in: Client, alice: User) -> None:
    first, second = make_generation(alice), make_generation(alice)
    headers = {"HX-Request": "true"}
    page = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": [str(first.pk)], "fallback_id": str(second.pk)},
        headers=headers,
    ).content.decode()
    assert f'id="tile-{first.pk}" data-keys-of-focus hx-swap-oob="true"' in page
    assert f"tile-{second.pk}" not in page
    page = signed_in.post(
        reverse("selection"), {"action": "delete", "fallback_id": str(first.pk)}, headers=headers
    ).content.decode()
    assert f'id="tile-{first.pk}" hx-swap-oob="delete"' in page
    assert "Undo" in page


def test_a_selection_is_downloaded(signed_in: Client, alice: User) -> None:
    generations = [make_generation(alice, num_images_per_prompt=2), make_generation(alice, State.FAILED)]
    answer = apply(signed_in, "download", *generations)
    assert answer["Content-Type"] == "application/zip"
    assert answer["Content-Disposition"].startswith('attachment; filename="dreamsite-')
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as file:
        assert len(file.namelist()) == 5
        recipes = json.loads(file.read(archive.RECIPES))
    assert [recipe["id"] for recipe in recipes["generations"]] == [str(generations[1].pk), str(generations[0].pk)]


def test_other_users_generations_are_ignored(signed_in: Client, bob: User) -> None:
    generation = make_generation(bob)
    for action in ("favourite", "delete"):
        apply(signed_in, action, generation)
    with zipfile.ZipFile(io.BytesIO(b"".join(apply(signed_in, "download", generation).streaming_content))) as file:
        assert file.namelist() == [archive.RECIPES]
    assert not is_favourite(generation)
    assert generation.trashed is None
    assert Client().post(reverse("selection"))["Location"].startswith(reverse("sign-in"))


def test_invalid_selections_are_explained(signed_in: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = make_generation(alice)
    assert signed_in.post(reverse("selection"), {"action": "delete", "id": ["x", "\0"]}).status_code == 302
    assert b"Nothing is selected" in signed_in.get("/history/").content
    assert apply(signed_in, "explode", generation).status_code == 400
    monkeypatch.setattr(bulk_actions, "MAX_SELECTED", 0)
    apply(signed_in, "delete", generation)
    assert b"select at most 0 at once" in signed_in.get("/history/").content
    generation.refresh_from_db()
    assert generation.trashed is None


def test_demo_data_fill_the_pages_and_need_consent_beside_real_users(client: Client, charlie: User) -> None:
    with pytest.raises(CommandError, match="real users"):
        call_command("demo_data", generations=5)
    with pytest.raises(CommandError, match="at least one"):
        call_command("demo_data", generations=0)
    call_command("demo_data", generations=60, users=2, beside_real_users=True, stdout=io.StringIO())
    user = User.objects.get(username="demo-2")
    assert not user.has_usable_password()
    client.force_login(user)
    page = client.get("/history/").content.decode()
    assert page.count("<article") > 20
    generation = Generation.objects.owned_by(user).filter(state=State.SUCCEEDED).latest("pk")
    word = generation.prompt.split()[-1]
    assert f"tile-{generation.pk}" in client.get("/history/", {"q": word}).content.decode()
    assert f"tile-{generation.pk}" in client.get("/history/", {"seed": generation.recipe["seeds"][0]}).content.decode()
    assert client.get(reverse("generation", args=[generation.pk])).status_code == 200


def test_two_that_are_selected_are_compared(signed_in: Client, alice: User, bob: User) -> None:
    older, newer, failed = make_generation(alice), make_generation(alice), make_generation(alice, State.FAILED)
    page = "/history/?q=night"

    def compare(*rows: Generation) -> str:
        fields = {"action": "compare", "id": [str(row.pk) for row in rows], "next": page}
        return str(signed_in.post(reverse("selection"), fields)["Location"])

    assert compare(newer, older) == f"/history/{newer.pk}/?with={older.pk}.0&q=night"
    for others in ([newer], [newer, failed], [newer, make_generation(bob)], [older, newer, make_generation(alice)]):
        assert compare(*others) == page
        assert "Select two that have pictures to compare them." in signed_in.get(page).content.decode()
