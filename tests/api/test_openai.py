"""`/v1/images/edits` with OpenAI's Python package, over real HTTP."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any, get_args
from uuid import uuid4

import httpx
import openai
import pytest
from django.contrib.auth.models import Group
from django.test import Client
from openai.types import ImageModel
from PIL import Image
from pytest_django import Settings

from accounts.models import User
from generation.models import DiffusionModel, ModelAlias
from tests.support import heif, node
from tests.support.pictures import encoded, photo
from tests.support.service import WAIT_SECONDS, Service

PICTURE = ("cat.png", photo(320, 200), "image/png")
EMPTY_MASK = encoded(Image.new("RGB", (320, 200)))
DATA_URL = f"data:image/png;base64,{base64.b64encode(PICTURE[1]).decode()}"


@pytest.fixture
def client_of_alice(service: Service, alices_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=alices_key, timeout=WAIT_SECONDS, max_retries=0) as client:
        yield client


@pytest.fixture
def images(client_of_alice: openai.OpenAI) -> openai.resources.Images:
    return client_of_alice.images


def test_pictures_are_returned_by_url(images: openai.resources.Images) -> None:
    begin = int(time.time())
    answer = images.edit(
        image=PICTURE,
        prompt="make it night",
        n=2,
        response_format="url",
        extra_body={"num_inference_steps": 2, "seed": 5},
    )
    assert answer.data
    assert len(answer.data) == 2
    picture = httpx.get(str(answer.data[0].url))
    assert Image.open(io.BytesIO(picture.content)).size == (320, 200)
    assert begin <= answer.created <= time.time()


def test_pictures_are_returned_in_the_response_and_fit_the_size(images: openai.resources.Images) -> None:
    answer = images.edit(
        image=[PICTURE],
        prompt="make it night",
        size="256x256",
        output_format="webp",
        output_compression=0,
        extra_body={"num_inference_steps": 1},
    )
    assert answer.data
    picture = Image.open(io.BytesIO(base64.b64decode(str(answer.data[0].b64_json))))
    assert (picture.format, picture.size) == ("WEBP", (256, 160))


def test_a_photo_of_a_phone_is_edited(images: openai.resources.Images) -> None:
    photo_of_phone = ("IMG_0001.HEIC", heif.heic_grid(2, 3, heif.rotation(1)), "image/heic")
    answer = images.edit(image=photo_of_phone, prompt="make it night", extra_body={"num_inference_steps": 1})
    assert answer.data
    picture = base64.b64decode(str(answer.data[0].b64_json))
    assert Image.open(io.BytesIO(picture)).size == (192, 128)


def test_the_default_of_steps_is_recommended_by_the_model(
    images: openai.resources.Images, service: Service, alices_key: str
) -> None:
    raw = images.with_raw_response.edit(image=PICTURE, prompt="make it night", size="256x256")
    with service.client(alices_key) as client:
        record = client.get(f"/generations/{raw.headers['X-Generation-Id']}").json()
    assert record["effective"]["num_inference_steps"] == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(("most", "steps"), [(None, 2), (200, 2), (1, 1)])
def test_the_default_of_steps_respects_the_limit_of_staff(
    tiny_edit: DiffusionModel, client: Client, alices_token: str, most: int | None, steps: int
) -> None:
    DiffusionModel.objects.filter(pk=tiny_edit.pk).update(max_steps=most)
    answer = client.post(
        "/v1/images/edits",
        {"prompt": "make it night", "image": io.BytesIO(PICTURE[1]), "dry_run": "true"},
        headers={"Authorization": f"Bearer {alices_token}"},
    )
    assert answer.status_code == 200, answer.content
    assert answer.json()["effective"]["num_inference_steps"] == steps


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis", "tiny_edit")
def test_json_may_have_an_address_where_pictures_are_fetched(
    client: Client, alices_token: str, settings: Settings
) -> None:
    settings.FETCH_IMAGE_URLS = True
    picture = {"image_url": "https://example.com/cat.png"}
    answer = client.post(
        "/v1/images/edits",
        {"prompt": "make it night", "images": [picture], "size": "256x256", "dry_run": True},
        content_type="application/json",
        headers={"Authorization": f"Bearer {alices_token}"},
    )
    assert answer.status_code == 200, answer.content
    assert "size has no effect on a picture that is fetched." in answer.json()["warnings"]


@pytest.mark.parametrize(
    ("arguments", "param", "words"),
    [
        ({"size": "huge"}, "size", "512x512"),
        ({"n": 11}, "n", "from 1 to 10"),
        ({"mask": ("mask.png", EMPTY_MASK, "image/png")}, "mask", "in white, or as the transparent part"),
        ({"mask": ("mask.png", b"no picture", "image/png")}, "mask", "looks like a text file"),
        ({"markup": PICTURE}, "markup", "Not supported"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"output_compression": 101}, "output_compression", "from 0 to 100"),
        ({"output_format": "gif"}, "output_format", "webp"),
        ({"stream": True}, "stream", "events"),
        ({"image": [PICTURE, PICTURE]}, "images[]", "reads one picture"),
        ({"model": "someone/unheard-of"}, "model", "dreamsite/tiny-redraw, chatgpt-image-latest"),
        ({"model": "a\0b"}, "model", "no such model"),
        ({"response_format": "pigeon"}, "response_format", "b64_json"),
        ({"prompt": ""}, "prompt", "required"),
    ],
)
def test_errors_have_the_shape_that_openais_clients_read(
    images: openai.resources.Images, arguments: dict[str, object], param: str | None, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        images.edit(**{"image": PICTURE, "prompt": "make it night", **arguments})
    assert error.value.param == param
    assert words in error.value.message


def send(service: Service, key: str, body: object, content_type: str = "application/json") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    with service.client(key) as client:
        return client.post("/v1/images/edits", content=content, headers={"Content-Type": content_type})


def test_fields_without_effect_are_told(images: openai.resources.Images) -> None:
    answer = images.edit(
        image=PICTURE,
        prompt="make it night",
        model="gpt-image-1",
        size="1024x1024",
        quality="high",
        background="opaque",
        input_fidelity="high",
        user="user-1234",
        stream=False,
        extra_body={"moderation": "low", "partial_images": 0, "num_inference_steps": 1},
    )
    (alias, *others) = (answer.model_extra or {})["warnings"]
    assert alias == "gpt-image-1 is an alias of dreamsite/tiny-edit here."
    assert [warning.split()[0] for warning in others[:4]] == ["quality", "input_fidelity", "moderation", "user"]
    assert "in 1024x1024 it is 320x200" in others[4]


@pytest.mark.parametrize(
    "picture",
    [
        {"images": [{"image_url": DATA_URL}]},
        {"images": [{"image_url": {"url": DATA_URL}}]},
        {"image": DATA_URL},
    ],
)
def test_a_request_may_be_json(service: Service, alices_key: str, picture: dict[str, object]) -> None:
    fields = {"prompt": "Köln bei Nacht", "n": 1, "size": None, "loras": {}, "num_inference_steps": 1, "seed": 5}
    answer = send(service, alices_key, {**fields, **picture, "response_format": "url"})
    assert answer.status_code == 200, answer.text
    with service.client(alices_key) as client:
        record = client.get(f"/generations/{answer.headers['X-Generation-Id']}").json()
    assert (record["parameters"]["prompt"], record["parameters"]["seed"]) == ("Köln bei Nacht", 5)
    assert record["images"][0]["width"] == 320


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"images": [{"image_url": DATA_URL}] * 2}, "images[]", "reads one picture"),
        ({"images": []}, "image", "required"),
        ({"images": [{"file_id": "file-1"}]}, "image", "no stored files"),
        ({"images": [{"image_url": 7}]}, "image", "data:image/png"),
        ({"images": [{"image_url": "data:image/png;base64,A"}]}, "image", "data URL"),
        ({"images": [{"image_url": "https://example.com/a.png"}]}, "image_url", "disabled"),
        ({"images": [{"image_url": DATA_URL}], "mask": {"file_id": "file-1"}}, "mask", "no stored files"),
        (
            {"images": [{"image_url": DATA_URL}], "mask": {"image_url": "https://example.com/a.png"}},
            "mask",
            "not fetched",
        ),
        ({"images": [{"image_url": DATA_URL}], "prompt": ["x"]}, "prompt", "valid string"),
        ({"images": [{"image_url": DATA_URL}], "prompt": True}, "prompt", "valid string"),
        ({"images": [{"image_url": DATA_URL}], "negative_prompt": 5}, "negative_prompt", "valid string"),
        ({"images": [{"image_url": DATA_URL}], "loras": [1]}, "loras", "JSON object"),
        ({"images": [{"image_url": DATA_URL}], "loras": {"a/b": 1}}, "loras", "not found"),
        ({"images": [{"image_url": DATA_URL}], "n": 11}, "n", "from 1 to 10"),
        ([], None, "not an object"),
        (b"{", None, "damaged"),
        (b'{"prompt": "\xff"}', None, "UTF-8"),
        (b'{"prompt": "\\ud800"}', None, "surrogate"),
        (b"[" * 9_000, None, "nested"),
        (b"[" + b"{}," * 9_000, None, "values"),
    ],
)
def test_json_that_cannot_be_used_is_refused(
    service: Service, alices_key: str, body: object, param: str | None, words: str
) -> None:
    answer = send(service, alices_key, {"prompt": "x", **body} if isinstance(body, dict) else body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert words in error["message"]


def test_other_content_types_are_refused_by_name(service: Service, alices_key: str) -> None:
    answer = send(service, alices_key, b"<x/>", "text/xml")
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "multipart/form-data or application/json" in answer.json()["error"]["message"]


NODE = """
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.URL, apiKey: process.env.TOKEN, maxRetries: 2 });
const names = [];
for await (const model of client.models.list()) names.push(model.id);
const { id } = await client.models.retrieve(names[1]);
const image = await toFile(Buffer.from(process.env.PICTURE, "base64"), "cat.png", { type: "image/png" });
const request = { image: [image], model: "gpt-image-1", prompt: "make it night", size: "256x256", stream: false };
const edited = await client.images.edit(request);
const error = await client.images.edit({ ...request, model: "nothing" }).catch((error) => error);
const { status, param, code } = error;
console.log(JSON.stringify({ names, id, picture: edited.data[0].b64_json, kind: error.constructor.name, status, param, code }));
"""


def test_the_sdk_for_node_works_with_one_picture_in_a_list(service: Service, alices_key: str) -> None:
    picture = base64.b64encode(PICTURE[1]).decode()
    answer = json.loads(node.run_module(NODE, URL=f"{service.url}/v1", TOKEN=alices_key, PICTURE=picture))
    assert answer["names"][:2] == ["dreamsite/tiny-edit", "dreamsite/tiny-redraw"]
    assert answer["id"] == "dreamsite/tiny-redraw"
    assert Image.open(io.BytesIO(base64.b64decode(answer["picture"]))).size == (256, 160)
    error = [answer[name] for name in ("kind", "status", "param", "code")]
    assert error == ["BadRequestError", 400, "model", "unknown_model"]


def test_the_form_is_read_as_utf_8_whatever_its_charset(service: Service) -> None:
    for charset in ("idna", "punycode", "rot13"):
        with service.client() as client:
            answer = client.post(
                "/v1/images/edits",
                headers={"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"},
                content="prompt=%C3%A4%FF",
            )
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "image")


def test_a_wrong_key_is_an_authentication_error(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.images.edit(image=PICTURE, prompt="x")


def test_a_request_that_takes_long_is_not_retried(service: Service, alices_key: str) -> None:
    with (
        openai.OpenAI(base_url=f"{service.url}/v1", api_key=alices_key, max_retries=2) as client,
        pytest.raises(openai.UnprocessableEntityError, match="is not finished yet") as error,
    ):
        client.images.edit(
            image=PICTURE,
            prompt="x",
            model="dreamsite/tiny-redraw",
            extra_body={"num_inference_steps": 200},
            extra_headers={"Prefer": "wait=1"},
        )
    assert error.value.code == "not_finished"
    with service.client(alices_key) as api:
        api.post(f"/generations/{error.value.response.headers['X-Generation-Id']}/cancel")


def test_a_retry_while_it_runs_waits_for_the_same_generation(service: Service, alices_key: str) -> None:
    form: dict[str, Any] = {"data": {"prompt": "x", "num_inference_steps": "15"}, "files": {"image": PICTURE}}
    with service.client(alices_key) as client:
        client.headers["Idempotency-Key"] = str(uuid4())
        first = client.post("/v1/images/edits", headers={"Prefer": "respond-async"}, **form)
        again = client.post("/v1/images/edits", headers={"Prefer": "wait=40"}, **form)
    assert (first.status_code, again.status_code) == (422, 200)
    assert first.headers["X-Generation-Id"] == again.headers["X-Generation-Id"]


def test_models_are_listed_the_default_first_and_with_their_aliases(client_of_alice: openai.OpenAI) -> None:
    models = list(client_of_alice.models.list())
    names = [model.id for model in models]
    assert names[:2] == ["dreamsite/tiny-edit", "dreamsite/tiny-redraw"]
    assert "gpt-image-1" in names
    assert {(model.object, model.owned_by) for model in models} == {("model", "dreamsite")}


def test_a_model_is_described_whether_its_slash_is_escaped_or_not(
    client_of_alice: openai.OpenAI, service: Service, alices_key: str
) -> None:
    # The SDK escapes the slash.
    assert client_of_alice.models.retrieve("dreamsite/tiny-redraw").id == "dreamsite/tiny-redraw"
    with service.client(alices_key) as client:
        assert client.get("/v1/models/dreamsite/tiny-redraw").json()["id"] == "dreamsite/tiny-redraw"
        assert client.get("/v1/models/").json() == client.get("/v1/models").json()
    with pytest.raises(openai.NotFoundError) as error:
        client_of_alice.models.retrieve("someone/unheard-of")
    assert (error.value.param, error.value.code) == ("model", "not_found")
    assert "dreamsite/tiny-edit, dreamsite/tiny-redraw" in error.value.message


def test_every_image_model_that_the_sdk_names_is_an_alias(client_of_alice: openai.OpenAI) -> None:
    assert set(get_args(ImageModel)) <= {model.id for model in client_of_alice.models.list()}


CHANGE_MODELS = """
from django.contrib.auth.models import Group
from accounts.models import User
from generation.models import DiffusionModel, ModelAlias

redraw = DiffusionModel.objects.get(pk="dreamsite/tiny-redraw")
painters, _ = Group.objects.get_or_create(name="painters")
"""


def test_an_alias_of_another_model_than_the_default_runs_that(
    images: openai.resources.Images, service: Service, alices_key: str
) -> None:
    change = CHANGE_MODELS + 'ModelAlias.objects.get_or_create(name="sora-image", model=redraw)'
    service.manage("shell", "--no-imports", "-c", change)
    try:
        raw = images.with_raw_response.edit(
            image=PICTURE, prompt="a rocket", model="sora-image", size="256x256", extra_body={"num_inference_steps": 2}
        )
    finally:
        service.query("DELETE FROM generation_modelalias WHERE name = 'sora-image'")
    assert "sora-image is an alias of dreamsite/tiny-redraw here." in raw.http_response.json()["warnings"]
    with service.client(alices_key) as client:
        record = client.get(f"/generations/{raw.headers['X-Generation-Id']}").json()
    assert record["model_id"] == "dreamsite/tiny-redraw"


def test_a_reserved_model_is_named_to_its_group_alone(service: Service, alices_key: str, bobs_key: str) -> None:
    reserve = """
model = DiffusionModel.objects.create(id="someone/reserved", family="stable-diffusion", enabled=True)
model.allowed_groups.add(painters)
User.objects.get(username="alice").groups.add(painters)
"""
    service.manage("shell", "--no-imports", "-c", CHANGE_MODELS + reserve)
    seen = {}
    try:
        for key in (alices_key, bobs_key):
            with openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0) as client:
                seen[key] = "someone/reserved" in {model.id for model in client.models.list()}
                if seen[key]:
                    assert client.models.retrieve("someone/reserved").owned_by == "someone"
                    continue
                with pytest.raises(openai.NotFoundError) as error:
                    client.models.retrieve("someone/reserved")
                with pytest.raises(openai.BadRequestError) as refused:
                    client.images.edit(image=PICTURE, prompt="x", model="someone/reserved")
    finally:
        delete = 'DiffusionModel.objects.get(pk="someone/reserved").delete()'
        service.manage("shell", "--no-imports", "-c", CHANGE_MODELS + delete)
    assert seen == {alices_key: True, bobs_key: False}
    assert "someone/reserved" not in error.value.message
    assert (refused.value.param, refused.value.code) == ("model", "unknown_model")


@pytest.mark.django_db
def test_only_models_that_the_user_may_use_are_named(tiny_edit: DiffusionModel, alice: User) -> None:
    reserved, disabled = (
        DiffusionModel.objects.create(id=f"someone/{name}", family="stable-diffusion", enabled=name == "reserved")
        for name in ("reserved", "disabled")
    )
    for name, model in (("reserved", reserved), ("disabled", disabled), ("usual", None)):
        ModelAlias.objects.create(name=name, model=model)
    assert ModelAlias.objects.named_models(alice)["reserved"] == reserved
    reserved.allowed_groups.add(Group.objects.create(name="painters"))
    named = ModelAlias.objects.named_models(alice)
    assert not {"reserved", "disabled", reserved.pk} & named.keys()
    assert named["usual"] == tiny_edit
