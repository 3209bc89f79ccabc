"""Models and LoRAs in the admin: groups, downloads and warming by workers, validation."""

import re
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse

from accounts.models import ApiToken, AuditEntry, User
from generation.images.inputs import Inputs
from generation.jobs.submission import Request, build
from generation.memory import NO_OPTIONS, MemoryOptions, Offload, Quantization
from generation.models import (
    DiffusionModel,
    Lora,
    WorkerCommand,
)
from generation.parameters import ImageToImageParameters, RequestRefused
from tests.support.html import squeeze
from tests.support.workers import register_worker

TURBO = "stabilityai/sd-turbo"
MODELS = "/admin/generation/diffusionmodel/"
LORAS = "/admin/generation/lora/"

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture
def turbo(db: None) -> DiffusionModel:
    """An enabled model that only painters may use, with a LoRA."""
    values = {"family": "turbo", "revision": "a" * 40, "enabled": True}
    model, _ = DiffusionModel.objects.update_or_create(pk=TURBO, defaults=values)
    model.allowed_groups.add(Group.objects.create(name="painters"))
    Lora.objects.create(pk="someone/ink", revision="b" * 40, enabled=True).base_models.add(model)
    return model


def named(client: Client, raw: str, path: str) -> list[str]:
    answer = client.get(path, headers={"Authorization": f"Bearer {raw}"}).json()
    return [row["id"] for row in answer[path.strip("/")]]


def test_a_model_of_a_group_does_not_exist_for_others(
    client: Client, alice: User, bob: User, turbo: DiffusionModel
) -> None:
    parameters = ImageToImageParameters(prompt="make it night", model_id=TURBO)
    painter, raw_painter = ApiToken.objects.issue(alice, "laptop")
    other, raw_other = ApiToken.objects.issue(bob, "laptop")
    alice.groups.add(Group.objects.get(name="painters"))
    assert TURBO in named(client, raw_painter, "/models")
    assert "someone/ink" in named(client, raw_painter, "/loras")
    assert TURBO not in named(client, raw_other, "/models")
    assert "someone/ink" not in named(client, raw_other, "/loras")
    assert build(Request(alice, painter, parameters, Inputs())).model_id == TURBO
    with pytest.raises(RequestRefused) as refusal:
        build(Request(bob, other, parameters, Inputs()))
    assert (refusal.value.code, refusal.value.message) == (
        "unknown_model",
        "There is no such model here; leave model_id empty for the default model.",
    )
    turbo.allowed_groups.clear()
    assert TURBO in named(client, raw_other, "/models")


def test_the_default_model_is_open_to_all_users(staff: Client, turbo: DiffusionModel) -> None:
    action_form = {"action": "make_default", "_selected_action": [TURBO]}
    assert "is reserved for groups" in staff.post(MODELS, action_form, follow=True).content.decode()
    turbo.allowed_groups.clear()
    assert "is the default now" in staff.post(MODELS, action_form, follow=True).content.decode()
    group = Group.objects.get(name="painters").pk
    form = {"family": "turbo", "pool": "default", "revision": "a" * 40, "enabled": "on", "cost_weight": "1"}
    page = staff.post(
        reverse("admin:generation_diffusionmodel_change", args=[TURBO]), form | {"allowed_groups": [group]}
    ).content.decode()
    assert "The default model must be open to all users" in page


def test_models_are_downloaded_and_warmed_by_workers(staff: Client, turbo: DiffusionModel, settings: Any) -> None:
    def do(action: str, address: str = MODELS, name: str = TURBO) -> str:
        return staff.post(address, {"action": action, "_selected_action": [name]}, follow=True).content.decode()

    assert "The pool default has no running worker; start one first." in do("warm")
    register_worker("here-1")
    register_worker("here-2")
    register_worker("there-1", host="there")
    assert f"Sent “warm {TURBO}” to here-1, here-2, there-1" in do("warm")
    do("download")
    do("download", LORAS, "someone/ink")
    commands = list(WorkerCommand.objects.order_by("pk").values_list("action", "worker", "target"))
    assert commands == [
        ("warm", "here-1", TURBO),
        ("warm", "here-2", TURBO),
        ("warm", "there-1", TURBO),
        ("download", "here-2", TURBO),
        ("download", "there-1", TURBO),
        ("download LoRA", "here-2", "someone/ink"),
        ("download LoRA", "there-1", "someone/ink"),
    ]
    rate = {"done_bytes": 3_200_000_000, "total_bytes": 24_100_000_000, "bytes_per_second": 7e7}
    WorkerCommand.objects.filter(action="download").update(state="running", **rate)
    page = staff.get(MODELS).content.decode()
    assert "3.2 of 24.1 GB, about 5 min left" in page
    assert '<progress max="24100000000" value="3200000000"' in page
    assert AuditEntry.objects.filter(action="diffusionmodel.warm").count() == 3
    assert AuditEntry.objects.filter(action="lora.download_lora").count() == 2


def test_what_is_enabled_is_downloaded(staff: Client, turbo: DiffusionModel) -> None:
    register_worker("here-1")
    DiffusionModel.objects.filter(pk=TURBO).update(enabled=False)
    address = reverse("admin:generation_diffusionmodel_change", args=[TURBO])
    form = {"family": "turbo", "pool": "default", "cost_weight": "1"}
    staff.post(address, form)
    assert not WorkerCommand.objects.exists()
    page = staff.post(address, form | {"enabled": "on"}, follow=True).content.decode()
    assert f"Sent “download {TURBO}” to here-1" in page
    staff.post(address, form | {"enabled": "on", "cost_weight": "2"})
    assert WorkerCommand.objects.get().target == TURBO


def switches(client: Client, address: str = MODELS) -> dict[str, bool]:
    """Return which rows of a list are switched on."""
    page = client.get(address).content.decode()
    return {
        name: state == "true"
        for state, name in re.findall(r'role="switch" aria-checked="(.+?)" aria-label="(.+?)"', page)
    }


def test_models_are_enabled_and_disabled_in_the_list(staff: Client, turbo: DiffusionModel) -> None:
    register_worker()
    address = reverse("admin:generation_diffusionmodel_enabled", args=[quote(TURBO)])
    assert switches(staff)[TURBO]
    page = staff.post(f"{address}?family=turbo", {"enabled": "off"}, follow=True)
    assert page.redirect_chain == [(f"{MODELS}?family=turbo", 302)]
    assert f"Disabled {TURBO}." in page.content.decode()
    assert not switches(staff)[TURBO]
    entry = AuditEntry.objects.get(action="diffusionmodel.disable")
    assert (entry.target, entry.before, entry.after) == (TURBO, {"enabled": True}, {"enabled": False})
    assert not WorkerCommand.objects.exists()
    for _ in range(2):
        staff.post(address, {"enabled": "on"})
    assert switches(staff)[TURBO]
    assert AuditEntry.objects.filter(action="diffusionmodel.enable").count() == 1
    assert [command.target for command in WorkerCommand.objects.all()] == [TURBO], "what is enabled is downloaded"


def test_what_cannot_be_switched_says_why(staff: Client, turbo: DiffusionModel) -> None:
    for name, enabled, reason in (
        ("dreamsite/tiny-edit", "off", "The default model must be enabled."),
        ("Qwen/Qwen-Image", "on", "no commit was chosen: inspect it"),
    ):
        address = reverse("admin:generation_diffusionmodel_enabled", args=[quote(name)])
        assert reason in staff.post(address, {"enabled": enabled}, follow=True).content.decode()
        assert switches(staff)[name] == (enabled == "off")
    lora = reverse("admin:generation_lora_enabled", args=[quote("someone/ink")])
    staff.post(lora, {"enabled": "off"})
    assert not switches(staff, LORAS)["someone/ink"]
    assert staff.get(lora).status_code == 405
    unknown = reverse("admin:generation_lora_enabled", args=[quote("someone/else")])
    assert staff.post(unknown, {"enabled": "off"}).status_code == 404


def test_who_may_not_change_models_has_no_switch(client: Client, bob: User, turbo: DiffusionModel) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="view_diffusionmodel"))
    client.force_login(bob)
    assert switches(client) == {}
    address = reverse("admin:generation_diffusionmodel_enabled", args=[quote(TURBO)])
    assert client.post(address, {"enabled": "off"}).status_code == 403
    assert DiffusionModel.objects.get(pk=TURBO).enabled


def test_the_list_tells_size_licence_and_where_the_files_are(staff: Client, turbo: DiffusionModel) -> None:
    DiffusionModel.objects.filter(pk=TURBO).update(download_bytes=2_500_000_000, licence="some-licence")

    def downloaded() -> str:
        page = squeeze(staff.get(f"{MODELS}?q={TURBO}").content.decode())
        assert "2.5 GB" in page
        assert "some-licence" in page
        cell = re.search(r'field-downloaded"[^>]*>(.*?)<', page)
        assert cell
        return cell[1]

    assert downloaded() == "-"
    register_worker(missing=[TURBO])
    assert downloaded() == "no"
    register_worker("there-1", host="there")
    assert downloaded() == "on 1 of 2 hosts"
    register_worker()
    assert downloaded() == "yes"


def test_only_operators_send_commands(client: Client, bob: User, turbo: DiffusionModel) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="change_diffusionmodel"))
    client.force_login(bob)
    register_worker("here-1")
    assert "Warm the selected" not in client.get(MODELS).content.decode()
    client.post(MODELS, {"action": "warm", "_selected_action": [TURBO]})
    assert not WorkerCommand.objects.exists()


def test_memory_options_are_checked_and_reach_the_engine(staff: Client, turbo: DiffusionModel) -> None:
    url = reverse("admin:generation_diffusionmodel_change", args=[TURBO])
    form = {"family": "turbo", "pool": "default", "revision": "a" * 40, "enabled": "on", "cost_weight": "1"}
    page = staff.post(url, form | {"offload": "group", "quantization": "4-bit", "step_cache": "on"}).content.decode()
    assert "Group offload needs weights that are not quantized: choose none, fp8 or automatic." in page
    page = staff.post(url, form | {"step_cache": "on"}).content.decode()
    assert "Models of the family turbo cannot cache steps." in page
    page = staff.post(url, form | {"family": "omnigen", "compile_repeated_blocks": "on"}).content.decode()
    assert "Models of the family omnigen cannot be compiled." in page
    assert turbo.reference().memory == NO_OPTIONS
    chosen = {"offload": "model", "quantization": "8-bit", "vae_tiling": "True", "compile_repeated_blocks": "on"}
    assert staff.post(url, form | chosen).status_code == 302
    assert DiffusionModel.objects.get(pk=TURBO).reference().memory == MemoryOptions(
        offload=Offload.MODEL, quantization=Quantization.EIGHT_BIT, vae_tiling=True, compile_repeated_blocks=True
    )


def test_the_plan_in_force_is_shown(staff: Client, turbo: DiffusionModel) -> None:
    url = reverse("admin:generation_diffusionmodel_change", args=[TURBO])
    turbo.component_parameters = {"unet": 2_550_000_000, "text_encoder": 820_000_000, "vae": 85_000_000}
    turbo.save()
    assert "not loaded" in staff.get(url).content.decode()
    card = {"device": "cuda", "memory_total": 12 * 2**30}
    register_worker("gpu-1", models=[TURBO], plans={TURBO: "model offload and 8 bit"}, **card)
    assert re.search(r"Needs [\d.]+ GB.*\. Workers: 12 GB: whole\.", staff.get(url).content.decode())
    assert "model offload and 8 bit on gpu-1" in staff.get(url).content.decode()
    assert "model offload and 8 bit" in staff.get(reverse("operations")).content.decode()
