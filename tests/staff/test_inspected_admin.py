"""Models and LoRAs are added by one field, shown before they are saved, and saved as they were shown."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from generation.models import DiffusionModel, Lora, WorkerCommand
from generation.repositories.files import BUNDLED
from tests.support.admin import inspected, model_form
from tests.support.hub import ModelHub, Repository
from tests.support.single_files import save_checkpoint
from tests.support.tiny_models import save_sdxl_lora, save_stable_diffusion
from tests.support.workers import register_worker

NAME = "someone/editor"
ADD = reverse("admin:generation_diffusionmodel_add")
CHANGE = reverse("admin:generation_diffusionmodel_change", args=[NAME])
LORA = "dreamsite/banknote"


@pytest.fixture
def staff(client: Client, charlie: User, settings: Any, tmp_path: Path) -> Client:
    settings.MODELS_OFFLINE = False
    settings.MODELS_DIR = tmp_path / "models"
    client.force_login(charlie)
    return client


@pytest.fixture
def editor(hub: ModelHub, tmp_path: Path) -> Repository:
    """The bundled editor on the hub, under another name."""
    shutil.copytree(BUNDLED / "tiny-edit", tmp_path / "editor")
    return hub.add(NAME, tmp_path / "editor", {"license": "mit"})


def add_commit(hub: ModelHub, repository: Repository, **options: Any) -> str:
    (repository.directory / "README.md").write_text("Changed.")
    return hub.add(repository.name, repository.directory, {"license": "apache-2.0"}, **options).commit


def test_a_model_is_saved_as_it_was_shown(staff: Client, hub: ModelHub, editor: Repository) -> None:
    page, token = inspected(staff, "diffusionmodel", f"{hub.url}/{NAME}")
    for text in (
        editor.commit[:12],
        "mit",
        "instruct-pix2pix, as its files tell",
        "13.4 MB are fetched",
        "unet 3.18 million",
    ):
        assert text in page
    assert '<option value="instruct-pix2pix" selected>' in page
    newer = add_commit(hub, editor)
    form = model_form(family="instruct-pix2pix", enabled="on", inspection=token)
    assert staff.post(ADD, form).status_code == 302
    model = DiffusionModel.objects.get(pk=NAME)
    assert (model.revision, model.licence, model.is_gated) == (editor.commit, "mit", False)
    assert model.component_parameters["unet"] > 3_000_000
    assert model.download_bytes is not None
    assert 9_000_000 < model.download_bytes < sum(file.size for file in editor.files.values())

    page = staff.get(CHANGE).content.decode()
    assert editor.commit[:12] in page
    again = staff.get(CHANGE, {"inspect": "newest"}).content.decode()
    assert newer[:12] in again
    assert f"instead of <code>{editor.commit[:12]}</code>" in again
    model.refresh_from_db()
    assert model.revision == editor.commit
    token = again.partition('name="inspection" value="')[2].partition('"')[0]
    assert staff.post(CHANGE, form | {"inspection": token}).status_code == 302
    model.refresh_from_db()
    assert (model.revision, model.licence) == (newer, "apache-2.0")
    entry = AuditEntry.objects.filter(action="diffusionmodel.inspect").latest("pk")
    assert (entry.before or {})["revision"] == editor.commit
    assert (entry.after or {})["revision"] == newer


@pytest.mark.usefixtures("redis")
def test_a_new_commit_of_an_enabled_model_is_downloaded(
    staff: Client, hub: ModelHub, editor: Repository, django_capture_on_commit_callbacks: Any
) -> None:
    register_worker("here-1")
    _, token = inspected(staff, "diffusionmodel", NAME)
    form = model_form(family="instruct-pix2pix", enabled="on")
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(ADD, form | {"inspection": token})
    commands = WorkerCommand.objects.filter(action="download", target=NAME)
    assert commands.update(state="done") == 1
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(CHANGE, form | {"max_steps": "8"})
    assert commands.count() == 1
    add_commit(hub, editor)
    again = staff.get(CHANGE, {"inspect": "newest"}).content.decode()
    token = again.partition('name="inspection" value="')[2].partition('"')[0]
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(CHANGE, form | {"inspection": token})
    assert commands.count() == 2


@pytest.mark.usefixtures("redis")
def test_what_a_single_file_lacks_is_named_and_downloaded(
    staff: Client, tmp_path: Path, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    save_stable_diffusion(tmp_path, "tests/sd")
    save_checkpoint(tmp_path / "tests/sd", settings.MODELS_DIR / NAME / "a.safetensors")
    register_worker("here-1")
    page, token = inspected(staff, "diffusionmodel", f"{NAME}/a.safetensors")
    assert "what the file lacks is taken from stable-diffusion-v1-5/stable-diffusion-v1-5" in page
    refused = staff.post(ADD, model_form(family="qwen-image", inspection=token)).content.decode()
    assert "It is a single file, so its family must be one of stable-diffusion, " in refused
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(ADD, model_form(family="stable-diffusion", enabled="on", inspection=token))
    assert WorkerCommand.objects.get(target=NAME).action == "download"
    assert 'value="download">Download</button>' in staff.get(CHANGE).content.decode()


@pytest.mark.usefixtures("redis")
def test_the_memory_is_told_for_the_gpus_of_workers(staff: Client, editor: Repository) -> None:
    register_worker("cpu-1")
    assert re.search(r"Needs [\d.]+ GB\.</dd>", inspected(staff, "diffusionmodel", NAME)[0])
    register_worker("gpu-1", device="cuda:0", memory_total=12 * 2**30)
    assert "Workers: 12 GB: whole.</dd>" in inspected(staff, "diffusionmodel", NAME)[0]


def test_a_commit_that_is_gone_leaves_the_row_as_it_is(staff: Client, hub: ModelHub, editor: Repository) -> None:
    _, token = inspected(staff, "diffusionmodel", NAME)
    staff.post(ADD, model_form(inspection=token))
    add_commit(hub, editor)
    page = staff.get(CHANGE, {"inspect": "again"}).content.decode()
    assert f"Not inspected: {NAME} has no commit {editor.commit}" in page
    assert "What is used" in page
    assert 'name="inspection" value=""' in page


def test_only_what_was_shown_can_be_saved(staff: Client, editor: Repository) -> None:
    _, token = inspected(staff, "diffusionmodel", NAME)
    for forged in ("", token[:-1], f"{token}a"):
        answer = staff.post(ADD, model_form(inspection=forged), follow=True)
        assert "inspect it again" in answer.content.decode()
    assert not DiffusionModel.objects.filter(pk=NAME).exists()
    other = reverse("admin:generation_diffusionmodel_change", args=["stabilityai/sd-turbo"])
    before = DiffusionModel.objects.get(pk="stabilityai/sd-turbo").revision
    assert "inspect it again" in staff.post(other, model_form(inspection=token)).content.decode()
    assert DiffusionModel.objects.get(pk="stabilityai/sd-turbo").revision == before
    staff.post(ADD, model_form(inspection=token, max_steps="8"))
    answer = staff.post(ADD, model_form(inspection=token, max_steps="9"))
    assert "is in the list already" in answer.content.decode()
    assert DiffusionModel.objects.get(pk=NAME).max_steps == 8


def test_a_gated_model_can_be_added_with_a_family_by_hand(staff: Client, hub: ModelHub, editor: Repository) -> None:
    commit = add_commit(hub, editor, gated="auto")
    page, token = inspected(staff, "diffusionmodel", NAME)
    assert "set HF_TOKEN, which is missing" in page
    assert f'gated: accept it at\n      <a href="{hub.url}/{NAME}">' in page
    answer = staff.post(ADD, model_form(inspection=token, family=""))
    assert "This field is required" in answer.content.decode()
    assert staff.post(ADD, model_form(inspection=token, family="instruct-pix2pix")).status_code == 302
    model = DiffusionModel.objects.get(pk=NAME)
    assert (model.revision, model.is_gated, model.download_bytes) == (commit, True, None)
    assert "HF_TOKEN" in model.inspection_problem
    assert re.search(r"When it was last inspected:\s+someone/editor is gated", staff.get(CHANGE).content.decode())


def test_the_one_field_says_why_it_refuses(staff: Client, hub: ModelHub, editor: Repository) -> None:
    index = editor.directory / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionInstructPix2PixPipeline", "FluxControlPipeline"))
    hub.add("someone/depth", editor.directory)
    for source, says in [
        ("sdxl", "Enter owner/name"),
        ("no/body", "The hub has no repository no/body"),
        ("someone/depth", "FluxControlPipeline needs a control picture"),
        ("stabilityai/sd-turbo", 'stabilityai_2Fsd-turbo/change/?inspect=again">inspect it there</a>'),
    ]:
        assert says in staff.get(ADD, {"source": source}).content.decode()


def test_a_listed_model_gets_its_commit_when_it_is_enabled(staff: Client, editor: Repository) -> None:
    DiffusionModel.objects.create(id=NAME, family="instruct-pix2pix")
    page = staff.get(CHANGE).content.decode()
    assert "none yet: inspect it to choose the newest" in page
    assert "are on this server" not in page
    form = model_form(family="instruct-pix2pix", enabled="on")
    page = staff.post(CHANGE, form).content.decode()
    assert "What was found now: save to use it" in page
    assert not DiffusionModel.objects.get(pk=NAME).enabled
    token = page.partition('name="inspection" value="')[2].partition('"')[0]
    staff.post(CHANGE, form | {"inspection": token})
    model = DiffusionModel.objects.get(pk=NAME)
    assert (model.enabled, model.revision, model.licence) == (True, editor.commit, "mit")
    assert model.download_bytes


@pytest.mark.usefixtures("editor")
def test_a_base_model_is_added_in_the_window_that_a_lora_opens(staff: Client) -> None:
    hidden = '<input type="hidden" name="_popup" value="1">'
    assert hidden in staff.get(ADD, {"_popup": "1"}).content.decode()
    assert hidden in staff.get(ADD, {"_popup": "1", "source": NAME}).content.decode()


@pytest.mark.usefixtures("editor")
def test_a_saved_page_inspects_nothing_again(staff: Client) -> None:
    page, token = inspected(staff, "diffusionmodel", NAME)
    assert f'action="{ADD}"' in page
    staff.post(ADD, model_form(inspection=token))
    assert f'action="{CHANGE}"' in staff.get(CHANGE, {"inspect": "again"}).content.decode()


def test_the_facts_follow_the_chosen_family(staff: Client) -> None:
    def facts(family: str) -> str:
        query = {"model": NAME, "family": family}
        return staff.get(reverse("admin:generation_diffusionmodel_family"), query).content.decode()

    assert "guidance_scale 2.5, num_inference_steps 28" in facts("flux-kontext")
    assert "image_guidance_scale, negative_prompt, strength" in facts("flux-kontext")
    assert facts("nonsense").strip() == ""


def test_the_file_of_a_lora_is_chosen_and_its_base_offered(staff: Client, hub: ModelHub, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        shutil.copy(BUNDLED / "banknote/pytorch_lora_weights.safetensors", tmp_path / "loras" / name)
    commit = hub.add("someone/ink", tmp_path / "loras", {"base_model": "dreamsite/tiny-edit"}).commit
    page, token = inspected(staff, "lora", "someone/ink")
    assert '<option value="b.safetensors">b.safetensors (219 kB)</option>' in page
    assert '<option value="dreamsite/tiny-edit" selected>' in page
    form = {
        "inspection": token,
        "enabled": "on",
        "base_models": ["dreamsite/tiny-edit"],
        "weight_name": "c.safetensors",
    }
    add = reverse("admin:generation_lora_add")
    assert "Select a valid choice" in staff.post(add, form).content.decode()
    assert staff.post(add, form | {"weight_name": "b.safetensors"}).status_code == 302
    lora = Lora.objects.get(pk="someone/ink")
    assert (lora.revision, lora.weight_name, lora.download_bytes) == (commit, "b.safetensors", 218_584)
    assert [model.pk for model in lora.base_models.all()] == ["dreamsite/tiny-edit"]


@pytest.mark.usefixtures("tiny_edit")
def test_a_lora_for_another_kind_of_model_is_refused(staff: Client, hub: ModelHub, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    save_sdxl_lora(tmp_path / "lora/style.safetensors")
    hub.add("someone/style", tmp_path / "lora")
    page, token = inspected(staff, "lora", "someone/style")
    assert "<dd>SDXL</dd>" in page
    assert '<option value="stabilityai/sdxl-turbo">' in page
    assert '<option value="dreamsite/tiny-edit">' not in page
    form = {"inspection": token, "weight_name": "style.safetensors", "base_models": ["dreamsite/tiny-edit"]}
    add = reverse("admin:generation_lora_add")
    assert (
        "It was trained for SDXL; dreamsite/tiny-edit is Stable Diffusion 1 or Stable Diffusion 2."
        in staff.post(add, form).content.decode()
    )
    assert not Lora.objects.filter(pk="someone/style").exists()
    form["base_models"] = ["stabilityai/sdxl-turbo"]
    assert staff.post(add, form).status_code == 302


def test_files_on_this_server_are_inspected_again(staff: Client, tiny_edit: DiffusionModel) -> None:
    change = reverse("admin:generation_diffusionmodel_change", args=["dreamsite/tiny-edit"])
    assert "not known" in staff.get(change).content.decode()
    again = staff.get(change, {"inspect": "again"}).content.decode()
    assert "13.4 MB on this server" in again
    assert "128 to 512 pixels a side, in multiples of 16, at most 0.25 megapixels" in again
    token = again.partition('name="inspection" value="')[2].partition('"')[0]
    form = model_form(family="instruct-pix2pix", enabled="on", inspection=token)
    assert staff.post(change, form).status_code == 302
    tiny_edit.refresh_from_db()
    assert (tiny_edit.revision, tiny_edit.float16_bytes) == ("", None)
    assert set(tiny_edit.component_parameters) == {"unet", "text_encoder", "vae"}


def test_who_may_only_see_models_inspects_nothing(staff: Client, hub: ModelHub, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="view_diffusionmodel"))
    staff.force_login(bob)
    change = reverse("admin:generation_diffusionmodel_change", args=["stabilityai/sd-turbo"])
    hub.requests.clear()
    page = staff.get(change, {"inspect": "newest"}).content.decode()
    assert "What follows from the family" in page
    assert "Inspect again" not in page
    assert staff.get(ADD, {"source": NAME}).status_code == 403
    assert hub.requests == []
