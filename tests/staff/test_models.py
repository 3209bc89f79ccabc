"""The admin's pages of models: values that are refused, the default model, deletion."""

from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.models import DiffusionModel
from tests.support.admin import model_form
from tests.support.generations import make_generation


def test_invalid_models_are_explained(staff: Client, db: None) -> None:
    address = reverse("admin:generation_diffusionmodel_change", args=["stabilityai/sd-turbo"])
    for fields, says in [
        ({"pool": "nowhere"}, "There is no such pool"),
        ({"example_prompts": "x" * 4001}, "A prompt has at most 4000 characters"),
        ({"max_steps": "0"}, "greater than or equal to 1"),
        ({"max_images": "11"}, "less than or equal to 10"),
    ]:
        assert says in staff.post(address, model_form(**fields)).content.decode()
    assert staff.post(address, model_form(enabled="on", max_steps="8")).status_code == 302
    assert DiffusionModel.objects.get(id="stabilityai/sd-turbo").limits().num_inference_steps == 8
    DiffusionModel.objects.filter(id="stabilityai/sd-turbo").update(revision="")
    assert "no commit was chosen: inspect it" in staff.post(address, model_form(enabled="on")).content.decode()


def test_name_and_commit_of_a_model_cannot_be_typed(staff: Client, db: None) -> None:
    address = reverse("admin:generation_diffusionmodel_change", args=["stabilityai/sd-turbo"])
    before = DiffusionModel.objects.get(id="stabilityai/sd-turbo").revision
    form = model_form(id="other/name", max_side="768", revision="b" * 40)
    assert staff.post(address, form).status_code == 302
    assert not DiffusionModel.objects.filter(id="other/name").exists()
    model = DiffusionModel.objects.get(id="stabilityai/sd-turbo")
    assert (model.max_side, model.revision) == (768, before)


def test_the_default_model_is_changed_at_once_and_stays_enabled(staff: Client, db: None) -> None:
    address = reverse("admin:generation_diffusionmodel_changelist")

    def make_default(*names: str) -> str:
        form = {"action": "make_default", "_selected_action": names}
        return staff.post(address, form, follow=True).content.decode()

    assert "Select one enabled model." in make_default("stabilityai/sd-turbo")
    DiffusionModel.objects.filter(id="stabilityai/sd-turbo").update(enabled=True)
    assert "Select one enabled model." in make_default("stabilityai/sd-turbo", "dreamsite/tiny-edit")
    assert "is the default now" in make_default("stabilityai/sd-turbo")
    assert DiffusionModel.objects.usable("").id == "stabilityai/sd-turbo"
    change = reverse("admin:generation_diffusionmodel_change", args=["stabilityai/sd-turbo"])
    assert "The default model must be enabled." in staff.post(change, model_form()).content.decode()


def test_a_model_with_generations_cannot_be_deleted(staff: Client, alice: User) -> None:
    make_generation(alice)
    address = reverse("admin:generation_diffusionmodel_delete", args=["dreamsite/tiny-edit"])
    staff.post(address, {"post": "yes"})
    assert DiffusionModel.objects.filter(id="dreamsite/tiny-edit").exists()
