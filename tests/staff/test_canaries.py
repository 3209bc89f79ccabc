"""Canaries in the admin: alerts about changed pictures, the page that shows them, and accepting them."""

import pytest
from django.contrib.admin.utils import quote
from django.core.files.storage import default_storage
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry, User
from generation.models import Canary, DiffusionModel
from generation.staff.operations import dashboard
from tests.support.canaries import make_canary, make_failed_canary
from tests.support.html import squeeze
from tests.support.roles import OPERATORS, REVIEWERS, staff
from tests.support.workers import register_worker

PAGE = "/admin/operations/canaries/"

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(staff("olga", OPERATORS))
    return client


def alerts() -> list[str]:
    register_worker()
    return [alert.text for alert in dashboard.current_alerts()]


def test_a_changed_picture_is_an_alert_until_it_is_accepted(operator: Client) -> None:
    changed = make_canary("red", make_canary(), dtype="bfloat16", files={"unet/config.json": "11" * 32})
    (alert,) = alerts()
    assert alert == (
        "The pictures of dreamsite/tiny-edit changed with dtype float32 → bfloat16, unet/config.json, "
        "unet/diffusion_pytorch_model.safetensors. PSNR 41.25 dB, the largest difference is 37 of 255."
    )
    for page in ("/admin/", "/admin/operations/"):
        content = operator.get(page).content.decode()
        assert alert in content
        assert f'href="{PAGE}">Look at it</a>' in content
    content = operator.get(PAGE).content.decode()
    for shown in (alert, changed.file.url, "They are fine", "bfloat16"):
        assert shown.replace("&", "&amp;") in content
    assert operator.get(changed.file.url).status_code == 200
    answer = operator.post(f"{PAGE}{changed.pk}/accept", follow=True)
    assert "Later pictures of dreamsite/tiny-edit are compared with this one." in answer.content.decode()
    assert "No picture changed, and none failed." in answer.content.decode()
    changed.refresh_from_db()
    assert (changed.accepted_by, alerts()) == ("olga", [])
    entry = AuditEntry.objects.get(action="canary.accept")
    assert entry.after == {"accepted": True, "name": f"canary {changed.pk} of dreamsite/tiny-edit"}
    answer = operator.post(f"{PAGE}{changed.pk}/accept", follow=True)
    assert "Somebody else has decided meanwhile." in answer.content.decode()


def test_a_change_without_a_reason_is_told_as_such(operator: Client) -> None:
    make_canary("red", make_canary())
    (alert,) = alerts()
    assert "though all that makes them is the same: a device or its memory may be broken" in alert


def test_many_differences_are_not_all_named() -> None:
    make_canary("red", make_canary(), files={f"unet/{number}.json": "00" * 32 for number in range(9)})
    (alert,) = alerts()
    assert "unet/3.json, and 7 more. PSNR" in alert


def test_another_size_is_told() -> None:
    canary = make_canary("red", make_canary(), dtype="bfloat16")
    Canary.objects.filter(pk=canary.pk).update(largest_difference=None, psnr=None, width=128)
    (alert,) = alerts()
    assert alert == (
        "The size of the pictures of dreamsite/tiny-edit changed from 64 × 48 to 128 × 48 pixels: dtype float32 → bfloat16."
    )


def test_a_failure_is_an_alert_until_it_is_dismissed(operator: Client) -> None:
    failed = make_failed_canary("Model 'dreamsite/tiny-edit' could not be loaded.")
    (alert,) = alerts()
    assert alert == (
        "The canary of dreamsite/tiny-edit failed on A processor, AVX512: Model 'dreamsite/tiny-edit' could not be loaded."
    )
    answer = operator.post(f"{PAGE}{failed.pk}/accept", follow=True)
    assert "The failure of dreamsite/tiny-edit is dismissed." in answer.content.decode()
    assert "failed, accepted by olga" in squeeze(answer.content.decode())
    assert alerts() == []


def test_models_that_are_not_enabled_need_no_attention(operator: Client) -> None:
    make_failed_canary("It could not be loaded.")
    DiffusionModel.objects.update(enabled=False)
    assert alerts() == []


def test_the_page_tells_what_is_missing(operator: Client, settings: Settings) -> None:
    assert "not yet" in operator.get(PAGE).content.decode()
    make_canary()
    content = operator.get(PAGE).content.decode()
    assert "the first" in content
    assert "torch 2.13.0+cpu, float32, A processor, AVX512" in content
    settings.CANARIES = False
    assert "<code>CANARIES</code> is off: none are made." in operator.get(PAGE).content.decode()


def test_operators_alone_decide(client: Client) -> None:
    canary = make_canary("red", make_canary())
    client.force_login(staff("rita", REVIEWERS))
    assert client.get(PAGE).status_code == 403
    assert client.post(f"{PAGE}{canary.pk}/accept").status_code == 403
    assert Canary.objects.unaccepted().exists()


@pytest.mark.django_db(transaction=True)
def test_a_deleted_model_leaves_no_files(client: Client, charlie: User) -> None:
    canary = make_canary("red", make_canary())
    DiffusionModel.objects.update(is_default=False)
    client.force_login(charlie)
    address = f"/admin/generation/diffusionmodel/{quote(canary.model_id)}/delete/"
    assert client.post(address, {"post": "yes"}).status_code == 302
    assert not Canary.objects.exists()
    assert not default_storage.exists(str(canary.file.name))
