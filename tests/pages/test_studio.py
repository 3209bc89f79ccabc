"""The studio: its form with and without scripts, starting values, errors, estimates, and unfinished requests."""

import json
import re
import shlex
from io import BytesIO
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import ApiToken, User
from generation.images import storage
from generation.models import (
    ContactSheet,
    DiffusionModel,
    Generation,
    Lora,
    State,
)
from generation.pages.studio import snippets
from tests.support.generations import half_mask, make_generation
from tests.support.html import squeeze
from tests.support.pictures import encoded, photo, scene

TINY = "dreamsite/tiny-edit"
FIELDS = {"prompt": "make it night", "model_id": TINY, "num_inference_steps": "2"}
SCRIPTED = {"X-Requested-With": "fetch"}


def picture(width: int = 96, height: int = 64) -> SimpleUploadedFile:
    return SimpleUploadedFile("cat.png", photo(width, height), "image/png")


@pytest.fixture
def signed_in(client: Client, alice: User, redis: None, tiny_edit: DiffusionModel) -> Client:
    client.force_login(alice)
    return client


def test_it_works(signed_in: Client, alice: User) -> None:
    answer = signed_in.post("/", {**FIELDS, "seed": "7", "image": picture(), "safety_check": ["false", "true"]})
    generation = Generation.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/history/{generation.pk}/")
    assert (generation.user, generation.token, generation.in_studio, generation.state) == (
        alice,
        None,
        True,
        State.QUEUED,
    )
    assert generation.get_recipe().seeds == (7,)
    assert [warning for warning in generation.warnings if "drawn at" not in warning] == []
    assert Image.open(BytesIO(storage.read(str(generation.input.name)))).size == (96, 64)
    page = signed_in.get(answer["Location"]).content.decode()
    assert "<dd>the studio</dd>" in page
    assert str(generation.pk) in signed_in.get("/").content.decode(), "the studio shows unfinished generations again"


def test_an_address_leads_to_a_stored_picture(signed_in: Client, alice: User, bob: User) -> None:
    def answer(*addresses: str) -> tuple[int, list[str]]:
        response = signed_in.post("/studio/picture", {"address": addresses})
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)"', response.content.decode())
        return response.status_code, [f"{name}={value}" for name, value in fields]

    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32)]}
    generation = make_generation(alice, num_images_per_prompt=2, **inputs)
    result, of_input = [f"source={generation.pk}", "image=1"], [f"from={generation.pk}"]
    second = generation.images.get(index=1)
    page = f"https://here.example/dream/history/{generation.pk}/"
    bucket = "https://bucket.s3.example/"
    for address in (
        f"https://here.example{second.file.url}",
        f"{bucket}{second.thumbnail.name}?X-Amz-Signature=1",
        f"{page}?picture=2",
        f"{page}2.jpg",
    ):
        assert answer("https://elsewhere.example/", address) == (200, result), address
    for file in (generation.input, generation.input_thumbnail):
        assert answer(f"{bucket}{file.name}") == (200, of_input)
    assert answer(page) == (200, [f"source={generation.pk}", "image=0"])
    others = make_generation(bob)
    for address in (
        "",
        "https://[here/",
        f"{page}?picture=3",
        f"{page}share",
        f"{page}0.png",
        f"{page}mask.png",
        generation.mask.url,
        generation.references.get().file.url,
        f"/history/{uuid4()}/",
        f"/history/{others.pk}/",
        others.images.get().file.url,
    ):
        assert answer(address) == (204, []), address
    signed_in.post(f"/history/{generation.pk}/delete")
    refused = signed_in.post("/studio/picture", {"address": page})
    assert refused.status_code == 422
    assert "is in the trash" in refused.json()["errors"]["image"][0]
    assert Client().post("/studio/picture", {"address": page})["Location"].startswith("/accounts/sign-in")


def test_the_studio_is_private(client: Client, alice: User, bob: User, tiny_edit: DiffusionModel) -> None:
    generation = make_generation(bob, State.RUNNING)
    for address in ("/", f"/studio/{generation.pk}"):
        assert client.get(address)["Location"].startswith("/accounts/sign-in")
    assert client.post("/studio/estimate").status_code == 302
    assert client.get(f"/history/{generation.pk}/events").status_code == 403
    client.force_login(alice)
    for address in (
        f"/studio/{generation.pk}",
        f"/history/{generation.pk}/events",
        f"/?from={generation.pk}",
        f"/?source={generation.pk}&image=0",
        f"/?from={uuid4()}",
        "/?from=nonsense",
    ):
        assert client.get(address).status_code == 404, address
    for fields in ({"from": str(generation.pk)}, {"source": str(generation.pk), "image": "0"}):
        assert client.post("/", {**FIELDS, **fields}).status_code == 404
        assert client.post("/studio/estimate", {**FIELDS, **fields}).status_code == 404
    assert str(generation.pk) not in client.get("/").content.decode()


def test_forms_of_other_sites_are_refused(alice: User, tiny_edit: DiffusionModel) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post("/", {**FIELDS, "image": picture()}).status_code == 403
    assert client.post("/studio/estimate", FIELDS).status_code == 403


@pytest.mark.parametrize(
    ("fields", "place", "words", "status"),
    [
        ({"prompt": " "}, "prompt", "Say what should happen to the picture.", 422),
        ({"image": None}, "image", "Choose a picture.", 422),
        ({"image": SimpleUploadedFile("a.png", b"no picture")}, "image", "Choose the picture again.", 422),
        ({"guidance_scale": "51"}, "guidance_scale", "Input should be a number from 0 to 50.", 422),
        ({"seed": "seven"}, "seed", "Input should be a whole number.", 422),
        ({"num_images_per_prompt": "1.5"}, "num_images_per_prompt", "Input should be a whole number.", 422),
        ({"guidance_scale": "much"}, "guidance_scale", "Input should be a number.", 422),
        ({"seed": "-2"}, "seed", "Input should be a number from -1 to", 422),
        ({"model_id": "no/such"}, "model_id", "There is no such model here", 400),
        ({"lora:no/such": "1"}, "loras", "not found among those", 400),
        ({"lora:no/such": "much"}, "loras", "All LoRA weights must be numbers", 400),
    ],
)
def test_errors_are_shown_at_their_fields(
    signed_in: Client, tiny_edit: DiffusionModel, fields: dict[str, Any], place: str, words: str, status: int
) -> None:
    Lora.objects.create(id="some/style", enabled=True).base_models.add(tiny_edit)
    data = {name: value for name, value in {**FIELDS, "image": picture(), **fields}.items() if value is not None}
    answer = signed_in.post("/", data)
    assert answer.status_code == status
    page = answer.content.decode()
    errors = re.search(rf'data-errors="{re.escape(place)}">(.*?)</ul>', page)
    assert errors is not None
    assert words in errors[1]
    assert 'value="7.5"' in page or place == "guidance_scale", "the form keeps valid values"
    if fields.get("image"):
        fields["image"].seek(0)
    data = {**data, **({"image": picture()} if "image" not in fields else {})}
    answer = signed_in.post("/", data, headers=SCRIPTED)
    assert place in answer.json()["errors"]
    assert not Generation.objects.exists()


def test_exceeded_limits_are_explained(signed_in: Client, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 1
    assert signed_in.post("/", {**FIELDS, "image": picture()}).status_code == 302
    answer = signed_in.post("/", {**FIELDS, "image": picture()})
    assert answer.status_code == 429
    assert "You have 1 queued request of at most 1" in answer.content.decode()
    content = signed_in.post("/studio/estimate", FIELDS).json()
    assert "You have 1 queued request" in content["errors"][""][0]
    settings.MAX_QUEUE = 1
    settings.USER_MAX_QUEUED = 5
    assert signed_in.post("/", {**FIELDS, "image": picture()}, headers=SCRIPTED).status_code == 503


def test_a_double_click_is_one_request(signed_in: Client, alice: User) -> None:
    def send(**fields: str) -> Any:
        return signed_in.post("/", {**FIELDS, "key": "nonce", "image": picture(), **fields})

    first, second = send(), send()
    assert first["Location"] == second["Location"]
    assert Generation.objects.count() == 1
    assert send(prompt="make it day")["Location"] != first["Location"], "what was changed is another request"
    assert send(key="another")["Location"] != first["Location"]


def test_scripts_get_the_job_as_html(signed_in: Client) -> None:
    answer = signed_in.post("/", {**FIELDS, "num_images_per_prompt": "3", "image": picture()}, headers=SCRIPTED)
    generation = Generation.objects.get()
    assert answer.status_code == 201
    page = answer.content.decode()
    assert f'data-events="/history/{generation.pk}/events"' in page
    assert page.count("data-frame=") == 3
    assert "--w: 96; --h: 64" in page or "--w: 192; --h: 128" in page, "sizes are known before pictures are there"


def test_the_owner_gets_the_current_record(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    content = signed_in.get(f"/history/{generation.pk}/events").json()
    assert content["record"]["id"] == str(generation.pk)
    assert len(content["record"]["images"]) == 2
    assert content["origin"] == "http://testserver/"


def test_an_earlier_request_fills_the_form(signed_in: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    lora = Lora.objects.create(id="some/style", enabled=True)
    lora.base_models.add(tiny_edit)
    earlier = make_generation(
        alice,
        prompt="make it <snow>",
        seed=41,
        num_images_per_prompt=2,
        guidance_scale=9.123456789,
        negative_prompt="rain",
        output_format="webp",
        safety_check=False,
    )
    earlier.recipe = {**earlier.recipe, "loras": [{"id": lora.pk, "revision": "", "weight_name": "", "weight": 0.7}]}
    earlier.save()
    for mode, seed in (("remix", ""), ("exact", "41"), ("vary", "43")):
        page = signed_in.get(f"/?from={earlier.pk}&mode={mode}").content.decode()
        assert f'name="seed" value="{seed}"' in page
        assert "make it &lt;snow&gt;</textarea>" in page
        assert 'value="9.123456789"' in page
        assert "rain</textarea>" in page
        assert "<option selected>webp" in page
        assert 'name="lora:some/style" value="0.7"' in page
        assert not re.search(r'type="checkbox" name="safety_check" value="true" checked', page)
        assert earlier.input.url.replace("&", "&amp;") in page
    assert signed_in.get(f"/?from={earlier.pk}&mode=other").status_code == 404


def test_unavailable_models_and_loras_are_explained(signed_in: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    lora = Lora.objects.create(id="some/style", enabled=True)
    lora.base_models.add(tiny_edit)
    earlier = make_generation(alice)
    earlier.recipe = {**earlier.recipe, "loras": [{"id": lora.pk, "revision": "", "weight_name": "", "weight": 0.7}]}
    earlier.save()
    address = f"/?from={earlier.pk}&mode=exact"
    page = squeeze(signed_in.get(address).content.decode())
    assert "cannot be used" not in page
    assert re.search(r'<details class="more" open><summary>Negative prompt, LoRAs', page), "what is used is seen"
    Lora.objects.update(enabled=False)
    page = squeeze(signed_in.get(address).content.decode())
    assert "some/style cannot be used with this model now; it is left out." in page
    other = DiffusionModel.objects.create(id="some/other", family="stable-diffusion", enabled=True)
    Generation.objects.filter(pk=earlier.pk).update(model=other)
    assert "cannot be used here now" not in signed_in.get(address).content.decode()
    DiffusionModel.objects.filter(pk=other.pk).update(enabled=False)
    page = squeeze(signed_in.get(address).content.decode())
    errors = re.search(r'data-errors="model_id">(.*?)</ul>', page)
    assert errors is not None
    assert f"some/other cannot be used here now; this is {TINY} instead." in errors[1]


def test_a_stored_picture_needs_no_upload(signed_in: Client, alice: User) -> None:
    earlier = make_generation(alice, picture=scene(120, 80), seed=5)
    signed_in.post("/", {**FIELDS, "from": str(earlier.pk), "seed": "5"})
    repeated = Generation.objects.exclude(pk=earlier.pk).get()
    assert repeated.recipe == earlier.recipe, "exactly the same"
    assert (repeated.input_sha256, repeated.input_format) == (earlier.input_sha256, "JPEG")
    assert repeated.input.name != earlier.input.name, "each may be deleted on its own"
    pixels = [Image.open(BytesIO(storage.read(str(part.input.name)))).tobytes() for part in (earlier, repeated)]
    assert pixels[0] == pixels[1]
    assert repeated.source is None

    image = earlier.images.get()
    signed_in.post("/", {**FIELDS, "source": str(earlier.pk), "image": "0"})
    chained = Generation.objects.get(source=image)
    assert (chained.input_width, chained.input_height) == (image.width, image.height)
    signed_in.post("/", {**FIELDS, "from": str(chained.pk), "prompt": "once more"})
    assert Generation.objects.get(prompt="once more").source == image, "its picture has come from there, too"
    uploaded = {**FIELDS, "source": str(earlier.pk), "prompt": "mine", "image": picture()}
    signed_in.post("/", uploaded)
    assert Generation.objects.get(prompt="mine").source is None, "what is uploaded goes first"


def test_a_stored_mask_needs_no_upload(signed_in: Client, alice: User) -> None:
    earlier = make_generation(alice, picture=scene(120, 80), seed=5, mask=half_mask(120, 80))
    signed_in.post("/", {**FIELDS, "from": str(earlier.pk), "mask_from": str(earlier.pk), "seed": "5"})
    repeated = Generation.objects.exclude(pk=earlier.pk).get()
    assert repeated.recipe == earlier.recipe, "exactly the same"
    assert repeated.mask.name != earlier.mask.name, "each may be deleted on its own"
    kept, copied = (Image.open(BytesIO(storage.read(str(row.mask.name)))).convert("L") for row in (earlier, repeated))
    assert kept.tobytes() == copied.tobytes()

    fields = {**FIELDS, "image": picture(60, 40), "mask_from": str(earlier.pk), "mask_invert": "true"}
    signed_in.post("/", {**fields, "prompt": "another picture"})
    other = Generation.objects.get(prompt="another picture")
    stored = Image.open(BytesIO(storage.read(str(other.mask.name))))
    assert (stored.size, stored.getbbox()) == ((60, 40), (0, 20, 60, 40))
    assert "The mask of 120 x 80 pixels was fitted to the picture of 60 x 40." in other.warnings
    own = SimpleUploadedFile("mask.png", encoded(half_mask(60, 40).rotate(180)), "image/png")
    signed_in.post(
        "/", {**FIELDS, "prompt": "mine", "image": picture(60, 40), "mask_from": str(earlier.pk), "mask": own}
    )
    stored = Image.open(BytesIO(storage.read(str(Generation.objects.get(prompt="mine").mask.name))))
    assert stored.getbbox() == (0, 20, 60, 40), "what is uploaded goes first"


@pytest.mark.parametrize("field", ["mask_from", "images_from"])
def test_masks_and_further_pictures_of_others_and_removed_ones_are_refused(
    signed_in: Client, alice: User, bob: User, field: str
) -> None:
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32)]}

    def send(generation_id: object) -> Any:
        return signed_in.post("/", {**FIELDS, "image": picture(), field: str(generation_id)})

    other = make_generation(bob, **inputs)
    for unknown in (other.pk, uuid4(), "1"):
        assert send(unknown).status_code == 404
    assert f"test/{other.pk}" not in signed_in.get("/", {field: str(other.pk)}).content.decode()
    mine = make_generation(alice, **inputs)
    count = Generation.objects.count()
    Generation.objects.filter(pk=mine.pk).update(mask="")
    mine.references.update(file="")
    answer = send(mine.pk)
    assert answer.status_code == 422
    assert "removed" in answer.content.decode()
    for state, words in (
        ("trashed", "is in the trash; restore it first"),
        ("deleted", "was deleted, with its pictures"),
    ):
        Generation.objects.filter(pk=mine.pk).update(**{state: mine.created})
        answer = send(mine.pk)
        assert answer.status_code == 422
        assert words in answer.content.decode()
    assert Generation.objects.count() == count


def test_a_generation_whose_inputs_were_removed_can_be_shown_and_chosen(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, mask=half_mask(96, 64), references=[scene(32, 32)])
    page = signed_in.get(f"/?from={generation.pk}").content.decode()
    stored = re.findall(r'name="(mask_from|images_from)" value="([^"]+)"', page)
    assert set(stored) == {("mask_from", str(generation.pk)), ("images_from", str(generation.pk))}
    generation.references.update(file="", thumbnail="")
    Generation.objects.filter(pk=generation.pk).update(mask="", mask_thumbnail="")
    page = signed_in.get(f"/?from={generation.pk}&images_from={generation.pk}").content.decode()
    assert not re.search(r'name="(mask_from|images_from)" value="[^"]', page)
    page = squeeze(signed_in.get(f"/history/{generation.pk}/").content.decode())
    assert '<span class="muted">removed</span>' in page


def test_further_pictures_are_refused_where_the_model_reads_none(signed_in: Client, alice: User) -> None:
    earlier = make_generation(alice, references=[scene(32, 32)])
    answer = signed_in.post("/", {**FIELDS, "image": picture(), "images_from": str(earlier.pk)})
    assert answer.status_code == 422
    assert "reads one picture: send no further ones" in squeeze(answer.content.decode())


def test_trashed_and_deleted_inputs_are_refused(signed_in: Client, alice: User) -> None:
    earlier = make_generation(alice)
    for state, words in (
        ("trashed", "is in the trash; restore it first"),
        ("deleted", "was deleted, with its pictures"),
    ):
        Generation.objects.filter(pk=earlier.pk).update(**{state: earlier.created})
        for address in (f"/?from={earlier.pk}", f"/?source={earlier.pk}&image=0"):
            page = signed_in.get(address)
            assert page.status_code == 200
            assert words in page.content.decode()
        answer = signed_in.post("/", {**FIELDS, "from": str(earlier.pk)})
        assert answer.status_code == 422
        assert words in answer.content.decode()


def test_the_estimate_shows_cost_and_time(signed_in: Client, tiny_edit: DiffusionModel, settings: Settings) -> None:
    tiny_edit.run_timings.create(pixels=196_608, images=1, step_seconds=0.1, other_seconds=1)
    content = signed_in.post("/studio/estimate", {**FIELDS, "width": "512", "height": "384"}).json()
    assert content["words"].endswith("Its pool has no active worker · costs 0.393 of the 5000 left today")
    small = signed_in.post("/studio/estimate", {**FIELDS, "width": "2000", "height": "1000"}).json()
    assert "was fitted to 512 x 256" in small["warnings"][0]
    assert "costs at most 0.524" in signed_in.post("/studio/estimate", FIELDS).json()["words"]
    settings.LIMITS = False
    assert signed_in.post("/studio/estimate", FIELDS).json()["words"].endswith("costs at most 0.524")
    assert not Generation.objects.exists(), "it is a rehearsal"
    assert signed_in.get("/studio/estimate").status_code == 405


def test_the_request_is_shown_as_code(
    signed_in: Client, alice: User, client: Client, alices_token: str, tmp_path: Any
) -> None:
    hard = 'it\'s "night"; $(rm) `x` \\ @ <é>\nand more'
    fields = {**FIELDS, "prompt": hard, "seed": "3", "filename": 'my "cat"; 1.png'}
    content = signed_in.post("/studio/estimate", fields).json()
    words = shlex.split(content["curl"].replace("\\\n", " "))
    values = dict(part.split("=", 1) for name, part in pairwise(words) if name == "--form-string")
    assert values == {"prompt": hard, "model_id": TINY, "num_inference_steps": "2", "seed": "3"}
    assert words[-2:] == ["-F", 'image=@"my \\"cat\\"; 1.png"']
    assert words[:2] == ["curl", "http://testserver/image-to-image"]
    assert snippets.TOKEN in content["curl"]
    compile(content["python"], "snippet", "exec")
    assert repr(hard) in content["python"]

    earlier = make_generation(alice)
    content = signed_in.post("/studio/estimate", {**FIELDS, "from": str(earlier.pk)}).json()
    fetched = shlex.split(content["curl"].splitlines()[0])
    assert fetched[:3] == ["curl", "-o", "input.webp"]
    assert client.get(fetched[3].removeprefix("http://testserver")).status_code == 200


def test_a_model_without_a_sample_shows_its_last_result(signed_in: Client, alice: User, bob: User) -> None:
    turbo = DiffusionModel.objects.create(id="some/turbo", family="turbo", enabled=True)

    def sample(name: str = "some/turbo") -> str:
        page = signed_in.get("/").content.decode()
        found = re.search(r'<script id="model-presentations"[^>]*>(.*?)</script>', page)
        assert found is not None
        return str(json.loads(found[1])[name]["sample"])

    made = {
        name: make_generation(user, flagged=flagged)
        for name, user, flagged in (
            ("first", alice, []),
            ("last", alice, []),
            ("flagged", alice, [0]),
            ("bob's", bob, []),
        )
    }
    assert sample() == "", "these are of another model"
    Generation.objects.update(model=turbo)
    assert str(made["last"].images.get().thumbnail) in sample()
    Generation.objects.filter(pk=made["last"].pk).update(trashed=made["last"].created)
    assert str(made["first"].images.get().thumbnail) in sample()
    assert sample(TINY).endswith("cat-pencil-sketch.webp")


def test_models_show_what_has_an_effect_on_them(signed_in: Client, alice: User) -> None:
    DiffusionModel.objects.create(id="some/turbo", family="turbo", enabled=True, max_images=2)
    page = squeeze(signed_in.get("/").content.decode())
    hidden = re.compile(r'data-slider="(\w+)" hidden')
    assert hidden.findall(page) == ["guidance_scale", "image_guidance_scale", "strength"]
    assert 'name="num_inference_steps" value="2"' in page, "what the model does best with"
    alice.default_model = "some/turbo"
    alice.save()
    page = squeeze(signed_in.get("/").content.decode())
    assert hidden.findall(page) == ["guidance_scale", "image_guidance_scale"]
    assert 'name="num_inference_steps" value="2"' in page
    assert 'name="num_images_per_prompt" value="1" min="1" max="2"' in page
    page = squeeze(signed_in.post("/", {**FIELDS, "switch_model": "1"}).content.decode())
    assert "strength" in hidden.findall(page), "without scripts, a button shows another model's"
    assert "make it night</textarea>" in page
    assert 'name="num_inference_steps" value="2"' in page
    switch = {
        **FIELDS,
        "switch_model": "1",
        "previous_model": "dreamsite/tiny-edit",
        "model_id": "some/turbo",
        "guidance_scale": "9",
    }
    page = squeeze(signed_in.post("/", {**switch, "num_inference_steps": "2", "image": picture()}).content.decode())
    assert 'name="num_inference_steps" value="2"' in page, "what nobody touched is what the other model does best with"
    assert 'name="guidance_scale" value="9"' in page
    assert "Choose the picture again." in page
    content = json.loads(re.search(r'<script id="model-behaviour" type="application/json">(.*?)</script>', page)[1])  # type: ignore[index]
    assert content["some/turbo"]["sliders"]["num_inference_steps"] == {
        "has_effect": True,
        "value": "2",
        "max": 200.0,
        "slider_max": 8.0,
    }
    DiffusionModel.objects.update(enabled=False, is_default=False)
    assert "No model is enabled here" in signed_in.get("/").content.decode()


def test_the_last_prompts_are_offered_once_each(signed_in: Client, alice: User, bob: User) -> None:
    make_generation(bob, prompt="not mine")
    for prompt in ("older", "newer", "older", "last & least"):
        make_generation(alice, prompt=prompt)
    page = signed_in.get("/").content.decode()
    assert re.findall(r'data-prompt="([^"]*)"', page.partition("Recent")[2]) == ["last &amp; least", "older", "newer"]
    assert "last &amp; least</textarea>" in signed_in.get("/?prompt=last%20%26%20least").content.decode()


def test_the_page_takes_a_constant_number_of_queries(
    signed_in: Client, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    def all_of_it() -> None:
        with django_assert_num_queries(13):
            assert signed_in.get("/").status_code == 200

    make_generation(alice), make_generation(alice, State.RUNNING)
    DiffusionModel.objects.create(id="some/turbo", family="turbo", enabled=True)
    ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1"]})
    all_of_it()
    ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1"]})
    for number in range(6):
        make_generation(alice, State.QUEUED, num_images_per_prompt=2)
        make_generation(alice, num_images_per_prompt=3, prompt=f"number {number}")
        DiffusionModel.objects.create(id=f"some/model-{number}", family="turbo", enabled=True)
    all_of_it()


def test_a_deleted_token_is_not_shown_as_the_studio(signed_in: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    generation = make_generation(alice, token=token)
    token.delete()
    assert "deleted token" in signed_in.get(f"/history/{generation.pk}/").content.decode()


def test_what_is_unfinished_is_found_without_reading_what_has_ended(alice: User) -> None:
    make_generation(alice, State.QUEUED)
    for rows in (
        Generation.objects.owned_by(alice).live(),
        Generation.objects.owned_by(alice).in_states("running", "queued").order_by("-pk"),
    ):
        plan = rows[:12].explain()
        assert "INDEX history_by_state (user_id=? AND state=?" in plan
        assert "INDEX history " not in plan
        assert [row.state for row in rows[:12]] == [State.QUEUED]
