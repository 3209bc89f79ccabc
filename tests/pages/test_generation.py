"""The page of one generation: comparison, repeating, lineage, downloads, title and note, neighbours."""

import re
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageChops, ImageStat

from accounts.models import ApiToken, User
from generation import display
from generation.images import storage
from generation.library import deletion, related
from generation.models import ContactSheet, GeneratedImage, Generation, State
from tests.support.generations import ENVIRONMENT, make_generation
from tests.support.html import squeeze
from tests.support.pictures import scene

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def page_of(generation: Generation, **query: str) -> str:
    return reverse("generation", args=[generation.pk], query=query)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.RUNNING])
def test_a_flagged_input_is_blurred_on_every_page(client: Client, alice: User, charlie: User, state: State) -> None:
    origin, row = make_generation(alice, flagged=[0]), make_generation(alice, state)
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1"]})
    Generation.objects.filter(pk=row.pk).update(source=origin.images.get(), contact_sheet=sheet, cell=0)
    pages = {
        page_of(row): "other-flagged" if state == State.SUCCEEDED else f'class="waiting {state} flagged"',
        reverse("sheet", args=[sheet.pk]): 'class="sheet-input flagged"',
        reverse("job", args=[row.pk]): f'class="job {state} flagged-input"',
    }
    if state == State.RUNNING:
        pages |= {reverse("history"): f'class="tile {state} flagged"', page_of(origin): '<li class="flagged"><a'}
    staffs = reverse("admin:generation_generation_change", args=[row.pk])
    client.force_login(alice)
    for address, mark in pages.items():
        assert mark in squeeze(client.get(address).content.decode())
    client.force_login(charlie)
    staff_mark = "other-flagged" if state == State.SUCCEEDED else f'class="waiting {state} flagged"'
    assert staff_mark in squeeze(client.get(staffs).content.decode())
    assert (
        'aria-label="Show input, which is flagged"'
        in client.get(reverse("admin:generation_generation_changelist")).content.decode()
    )
    alice.blur_flagged = False
    alice.save()
    client.force_login(alice)
    for address, mark in pages.items():
        assert mark not in squeeze(client.get(address).content.decode())


def html(client: Client, generation: Generation, **query: str) -> str:
    answer = client.get(page_of(generation, **query))
    assert answer.status_code == 200
    return squeeze(answer.content.decode())


def child_of(user: User, image: GeneratedImage, state: State = State.SUCCEEDED, **fields: Any) -> Generation:
    child = make_generation(user, state, **fields)
    Generation.objects.filter(pk=child.pk).update(source=image)
    return child


def before(page: str) -> str:
    """Return the HTML of the picture that the result is compared with."""
    return page.partition('class="before"')[2].partition("</div>")[0]


def test_buttons_lead_to_the_studio(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    page = html(signed_in, generation, picture="2")
    for mode in ("remix", "exact", "vary"):
        assert f'href="/?from={generation.pk}&amp;mode={mode}"' in page
    assert f'href="/?source={generation.pk}&amp;image=1"' in page
    failed = html(signed_in, make_generation(alice, State.FAILED))
    assert "mode=exact" in failed
    assert "mode=vary" not in failed
    assert "?source=" not in failed


def test_the_address_selects_what_to_compare_with(signed_in: Client, alice: User) -> None:
    other = make_generation(alice, prompt="make it snow", num_images_per_prompt=2)
    generation = make_generation(alice, num_images_per_prompt=3)
    images, other_images = generation.images.all(), other.images.all()
    expected = {
        "": generation.input,
        "input": generation.input,
        f"{generation.pk}.1": images[1].file,
        f"{other.pk}.0": other_images[0].file,
        f"{other.pk}.1": other_images[1].file,
        f"{other.pk}": other_images[0].file,
        # The result itself, and pictures that do not exist.
        f"{generation.pk}.0": generation.input,
        f"{other.pk}.7": generation.input,
        f"{uuid4()}.0": generation.input,
        "\0'": generation.input,
        "9" * 5000: generation.input,
        f"{other.pk}.{'9' * 30}": generation.input,
    }
    for key, file in expected.items():
        assert str(file) in before(html(signed_in, generation, **{"with": key}))


def test_each_picture_is_offered_once_and_the_closest_first(signed_in: Client, alice: User, bob: User) -> None:
    parent = make_generation(alice, num_images_per_prompt=2)
    generation = child_of(alice, parent.images.get(index=1), num_images_per_prompt=2)
    child = child_of(alice, generation.images.get(index=0), seed=2)
    cell, same_input = make_generation(alice, seed=3), make_generation(alice, seed=generation.parameters["seed"])
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1", "2"]})
    Generation.objects.filter(pk__in=(generation.pk, cell.pk)).update(contact_sheet=sheet)
    for seed in range(10, 18):
        make_generation(alice, seed=seed)
    make_generation(alice, State.FAILED)
    make_generation(bob, seed=generation.parameters["seed"])
    strip = html(signed_in, generation).partition('aria-label="Compare with"')[2].partition("</nav>")[0]
    keys = re.findall(r'href="\?picture=1(?:&amp;with=([^"]+))?"', strip)
    # The input is its parent's result, so the parent comes as one of the same input; then the neighbours with a result.
    related_keys = [f"{row.pk}.0" for row in (child, cell, same_input, parent)]
    assert keys[:6] == ["", f"{generation.pk}.1", *related_keys]
    assert len(keys) == len(set(keys)) == 8


def test_other_aspect_ratios_are_not_cropped(signed_in: Client, alice: User) -> None:
    tall, wide = make_generation(alice, picture=scene(64, 96)), make_generation(alice, picture=scene(96, 64))
    assert "compare unlike" in html(signed_in, wide, **{"with": f"{tall.pk}.0"})
    assert "unlike" not in html(signed_in, wide)


def test_flagged_pictures_are_blurred_on_both_sides(signed_in: Client, alice: User) -> None:
    flagged, plain = make_generation(alice, flagged=[0]), make_generation(alice)
    assert 'class="compare flagged"' in html(signed_in, flagged)
    page = html(signed_in, plain, **{"with": f"{flagged.pk}.0"})
    assert 'class="compare other-flagged"' in page
    assert 'class="reveal"' in page
    User.objects.update(blur_flagged=False)
    for generation, query in ((flagged, {}), (plain, {"with": f"{flagged.pk}.0"})):
        page = html(signed_in, generation, **query)
        assert "data-flagged" not in page
        assert "reveal" not in page.partition("<dialog")[0]
        assert not re.search(r'class="[^"]*flagged', page)


def test_neighbours_are_linked(signed_in: Client, alice: User, bob: User) -> None:
    first, second = make_generation(alice), make_generation(alice)
    make_generation(bob)
    third = make_generation(alice, State.RUNNING)
    page = html(signed_in, second)
    assert f'rel="prev" href="{page_of(third)}"' in page
    assert f'rel="next" href="{page_of(first)}"' in page
    assert 'rel="next"' not in html(signed_in, first)
    assert 'rel="prev"' not in html(signed_in, third)
    deletion.trash(Generation.objects.filter(pk=first.pk))
    assert 'rel="next"' not in html(signed_in, second)


def test_the_lineage_shows_ancestors_and_derived_pictures(signed_in: Client, alice: User) -> None:
    root = make_generation(alice, prompt="the root")
    middle = child_of(alice, root.images.get(), prompt="the middle", num_images_per_prompt=2)
    leaf = child_of(alice, middle.images.get(index=1), prompt="the leaf")
    running = child_of(alice, middle.images.get(index=0), State.RUNNING, prompt="on its way")
    page = html(signed_in, middle).partition('class="lineage"')[2].partition("</section>")[0]
    assert "Origin and derived pictures" in page
    order = [page.index(f"/history/{item.pk}/") for item in (root, running, leaf)]
    assert order == sorted(order)
    page = html(signed_in, leaf).partition('class="lineage"')[2]
    assert f"{page_of(root)}?picture=1" in page
    assert f"{page_of(middle)}?picture=2" in page
    assert "Derived pictures" in html(signed_in, root)
    assert 'class="lineage"' not in html(signed_in, make_generation(alice))


def test_a_long_lineage_is_cut_and_takes_the_same_queries(
    signed_in: Client, alice: User, django_assert_num_queries: Any
) -> None:
    line = [make_generation(alice)]
    for _ in range(related.MAX_ANCESTORS + 2):
        line.append(child_of(alice, line[-1].images.get()))
    for generation in (line[1], line[-1]):
        with django_assert_num_queries(7):
            related.related_to(Generation.objects.select_related("user").get(pk=generation.pk), [])
    page = html(signed_in, line[-1]).partition('class="lineage"')[2].partition("</section>")[0]
    assert '<li class="more-marker">…' in page
    assert [item for item in line if page_of(item) in page] == line[-related.MAX_ANCESTORS - 1 : -1]
    assert '<li class="more-marker">…' not in html(signed_in, line[related.MAX_ANCESTORS])


def test_removed_ancestors_leave_a_placeholder(signed_in: Client, alice: User, bob: User) -> None:
    root = make_generation(alice, prompt="the root")
    middle = child_of(alice, root.images.get(), prompt="the middle")
    leaf = child_of(alice, middle.images.get())
    deletion.delete(root)
    deletion.trash(Generation.objects.filter(pk=middle.pk))
    page = html(signed_in, leaf)
    assert re.findall(r'class="removed">([^<]+)<', page) == ["deleted", "in the trash"]
    assert page_of(middle) not in page
    stranger = child_of(alice, make_generation(bob).images.get())
    assert 'class="lineage"' not in html(signed_in, stranger)


@pytest.mark.parametrize(("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_results_are_downloaded_in_the_chosen_format(signed_in: Client, alice: User, extension: str, kind: str) -> None:
    generation = make_generation(alice, num_images_per_prompt=2, prompt="Make it NIGHT, please!")
    image = generation.images.get(index=1)
    address = reverse("download", args=[generation.pk, 2, extension])
    assert address in html(signed_in, generation, picture="2")
    answer = signed_in.get(address)
    stem = f"{generation.created:%Y-%m-%d}-make-it-night-please-{generation.pk.hex[-8:]}-2"
    assert answer["Content-Disposition"] == f'attachment; filename="{stem}.{extension}"'
    assert answer["Content-Type"] == f"image/{kind.lower()}"
    stored = storage.read(str(image.file))
    content = answer.getvalue()
    assert (content == stored) is (extension == "png")
    with Image.open(BytesIO(content)) as picture, Image.open(BytesIO(stored)) as original:
        assert picture.format == kind
        difference = ImageChops.difference(picture.convert("RGB"), original.convert("RGB"))
        assert max(ImageStat.Stat(difference).mean) < 4


def test_the_page_shows_the_receipt(signed_in: Client, alice: User) -> None:
    made = html(signed_in, make_generation(alice))
    assert "<summary>Receipt</summary>" in made
    assert "<dt>Software</dt><dd>dreamsite 1.0.0, torch 2.13.0+cpu, diffusers 0.42.0</dd>" in made
    assert f"<dt>unet/config.json</dt><dd><code>{ENVIRONMENT['files']['unet/config.json']}</code></dd>" in made
    assert "Receipt" not in html(signed_in, make_generation(alice, State.FAILED))


def test_the_page_says_that_it_was_answered_from_an_earlier_request(
    signed_in: Client, alice: User, bob: User, client: Client
) -> None:
    earlier, again = make_generation(alice), make_generation(alice)
    Generation.objects.filter(pk=again.pk).update(reused_from=earlier)
    address = reverse("anew", args=[again.pk])
    for page in (html(signed_in, again), squeeze(signed_in.get(reverse("job", args=[again.pk])).content.decode())):
        assert f'<a href="{page_of(earlier)}">an earlier request</a>' in page
        assert f'action="{address}"' in page
    assert "succeeded at once, with pictures of an earlier request" in html(signed_in, again)
    assert "Make it anew" not in html(signed_in, earlier)
    made = Generation.objects.order_by("-pk").exclude(pk__in=(earlier.pk, again.pk))
    assert signed_in.post(address)["Location"] == page_of(made.get())
    assert (made.get().state, made.get().recipe["seeds"]) == (State.QUEUED, again.recipe["seeds"])
    deletion.trash(Generation.objects.filter(pk=earlier.pk))
    assert page_of(earlier) not in html(signed_in, again)
    Generation.objects.filter(pk=again.pk).update(input="")
    assert "it has no picture" in signed_in.post(address, follow=True).content.decode()
    client.force_login(bob)
    assert client.post(address).status_code == 404


def test_other_downloads_are_404(client: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice)
    address = reverse("download", args=[generation.pk, 1, "jpg"])
    assert reverse("sign-in") in client.get(address)["Location"]
    client.force_login(bob)
    assert client.get(address).status_code == 404
    client.force_login(alice)
    for number, extension in ((0, "jpg"), (2, "jpg"), (1, "gif"), (10**12, "png")):
        assert client.get(reverse("download", args=[generation.pk, number, extension])).status_code == 404
    assert client.post(address).status_code == 405
    deletion.trash(Generation.objects.all())
    assert client.get(address).status_code == 404


def test_an_unreadable_picture_is_reported(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    default_storage.delete(str(generation.images.get().file))
    answer = signed_in.get(reverse("download", args=[generation.pk, 1, "png"]), follow=True)
    assert "cannot be read now" in answer.content.decode()


def test_title_and_note_are_saved(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    address = reverse("annotate", args=[generation.pk])
    answer = signed_in.post(address, {"title": "  Night <shift> ", "note": "one\ntwo"}, follow=True)
    page = answer.content.decode()
    assert "Title and note are saved." in page
    assert "Night &lt;shift&gt;</h1>" in page
    assert "make it night" in page
    assert "one\ntwo" in page
    assert signed_in.post(address, {"title": "", "note": ""}).status_code == 302
    generation.refresh_from_db()
    assert (generation.title, generation.note, generation.state) == ("", "", State.RUNNING)


def test_invalid_notes_are_rejected_with_errors(signed_in: Client, alice: User) -> None:
    address = reverse("annotate", args=[make_generation(alice).pk])
    for title, note, message in (
        ("x" * 201, "", "at most 200"),
        ("", "y" * 4001, "at most 4000"),
        ("a\0b", "", "Null"),
    ):
        answer = signed_in.post(address, {"title": title, "note": note})
        assert answer.status_code == 422
        assert message in answer.content.decode()
        part = signed_in.post(address, {"title": title, "note": note}, headers={"HX-Request": "true"})
        assert message in part.content.decode()
        assert squeeze(part.content.decode()).startswith('<div id="notes">')
    assert set(Generation.objects.values_list("title", "note")) == {("", "")}


def test_htmx_gets_the_notes_only(signed_in: Client, alice: User) -> None:
    address = reverse("annotate", args=[make_generation(alice).pk])
    answer = signed_in.post(address, {"title": "Night"}, headers={"HX-Request": "true"})
    part = squeeze(answer.content.decode())
    assert part.startswith('<div id="notes">')
    assert "Night</h1>" in part


def test_another_user_cannot_annotate_or_compare(client: Client, alice: User, bob: User) -> None:
    generation, bobs = make_generation(alice, prompt="zebra"), make_generation(bob)
    client.force_login(bob)
    assert client.post(reverse("annotate", args=[generation.pk]), {"title": "mine"}).status_code == 404
    assert Generation.objects.get(pk=generation.pk).title == ""
    page = client.get(page_of(bobs, **{"with": f"{generation.pk}.0"})).content.decode()
    assert "zebra" not in page
    assert str(generation.input) not in page
    assert str(generation.images.get().file) not in page


def test_a_result_whose_input_was_removed_is_still_shown(signed_in: Client, alice: User) -> None:
    for generation in (make_generation(alice), make_generation(alice, State.FAILED)):
        Generation.objects.filter(pk=generation.pk).update(input="", input_thumbnail="")
        page = html(signed_in, generation)
        assert "removed" in page
        assert "The input picture" not in page
    assert signed_in.get("/history/").status_code == 200


def test_the_page_shows_everything(signed_in: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "my laptop")
    generation = make_generation(
        alice,
        token=token,
        prompt="make it <night>",
        negative_prompt="people",
        strength=0.5,
        num_images_per_prompt=2,
        flagged=[1],
    )
    page = signed_in.get(page_of(generation)).content.decode()
    first, second = generation.images.all()
    for text in (
        "make it &lt;night&gt;",
        "people",
        "succeeded in 2.4 s",
        "dreamsite/tiny-edit",
        "<code>1207</code>",
        "<code>1208</code>",
        "not flagged, score 0.01",
        "flagged, score 0.93",
        "no effect on this model",
        "strength has no effect on dreamsite/tiny-edit",
        "my laptop",
        "denoising",
        str(generation.pk),
        generation.input.url.replace("&", "&amp;"),
        first.file.url.replace("&", "&amp;"),
        second.thumbnail.url.replace("&", "&amp;"),
    ):
        assert text in page
    assert token.digest not in page
    assert "every 2s" not in page


def test_loras_are_shown_with_weights(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, loras='{"some/style": 0.7, "other/style": 1}')
    weights = {"some/style": 0.7, "other/style": 1.0}
    loras = [{"id": name, "revision": "", "weight_name": "", "weight": weight} for name, weight in weights.items()]
    Generation.objects.filter(pk=generation.pk).update(recipe={**generation.recipe, "loras": loras})
    assert "<dd>some/style 0.7, other/style 1" in signed_in.get(page_of(generation)).content.decode()


def test_the_address_selects_a_result(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=3)
    files = [image.file.name for image in generation.images.all()]
    for number, expected in [("1", 0), ("3", 2), ("0", 0), ("4", 0), ("x", 0), ("-1", 0), ("9" * 5000, 0), ("²", 0)]:
        page = signed_in.get(page_of(generation), {"picture": number}).content.decode()
        after = page.partition('class="after"')[2]
        assert str(files[expected]) in after.partition('class="name"')[0]


def test_an_unchecked_picture_is_not_called_safe(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, safety_check=False)
    page = signed_in.get(page_of(generation)).content.decode()
    assert "not checked" in page
    assert "not flagged" not in page


def test_a_flagged_picture_is_blurred_until_clicked(signed_in: Client, alice: User) -> None:
    page = squeeze(signed_in.get(page_of(make_generation(alice, flagged=[0]))).content.decode())
    assert 'class="compare flagged"' in page
    assert '<label class="reveal"><input type="checkbox"' in page


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.QUEUED, "queued"),
        (State.RUNNING, "generating"),
        (State.FAILED, "failed after 2.4 s"),
        (State.CANCELED, "canceled"),
    ],
)
def test_every_state_is_described(signed_in: Client, alice: User, state: State, words: str) -> None:
    generation = make_generation(alice, state)
    page = signed_in.get(page_of(generation)).content.decode()
    assert words in page
    assert generation.error_message in page
    assert ("every 2s" in page) is not generation.is_final


def test_lost_workers_and_attempts_are_shown(alice: User) -> None:
    assert display.state(Generation(state=State.QUEUED, crash_count=1)) == "queued again: its worker was lost"
    assert display.state(Generation(state=State.RUNNING, attempt=2)) == "generating, attempt 2"


def test_a_waiting_page_reloads_when_the_generation_ends(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    headers = {"HX-Request": "true"}
    assert b'id="live"' in signed_in.get(page_of(generation), headers=headers).content
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
    assert signed_in.get(page_of(generation), headers=headers)["HX-Refresh"] == "true"


def test_the_page_takes_a_constant_number_of_queries(
    signed_in: Client, alice: User, django_assert_num_queries: Any
) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    parent, generations = make_generation(alice), []
    for count in (1, 8):
        generations += [make_generation(alice, num_images_per_prompt=count, token=token if count > 1 else None)]
        make_generation(alice)
        with django_assert_num_queries(13):
            assert signed_in.get(page_of(generations[-1])).status_code == 200
    Generation.objects.filter(pk=generations[-1].pk).update(source=parent.images.get())
    # Any number of ancestors takes two more.
    with django_assert_num_queries(15):
        assert signed_in.get(page_of(generations[-1])).status_code == 200


def test_a_page_shows_a_deleted_token_and_extreme_values(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, prompt="word " * 500, seed=2**63 - 1, picture=scene(300, 20))
    page = signed_in.get(page_of(generation)).content.decode()
    assert "deleted token" in page
    assert "Full prompt" in page
    assert str(2**63 - 1) in page
