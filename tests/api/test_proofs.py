"""`POST /generations/{id}/prove`, the button on the page, the action of staff, and `manage.py prove`."""

import subprocess
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from generation.library import deletion
from generation.models import Generation, State
from tests.support.generations import make_generation
from tests.support.html import squeeze
from tests.support.pictures import photo
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.usefixtures("redis")

COMPARISON: dict[str, Any] = {
    "pictures": [{"identical": False, "psnr": 52.5, "largest_difference": 3}],
    "differences": [{"name": "dtype", "then": "float32", "now": "bfloat16"}],
}


@pytest.fixture
def api(alices_token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {alices_token}"})


def prove(api: Client, generation_id: object) -> Any:
    return api.post(f"/generations/{generation_id}/prove")


def finish(**fields: Any) -> Generation:
    """End the only proof."""
    Generation.objects.exclude(proves=None).update(**{"state": State.SUCCEEDED, "comparison": COMPARISON} | fields)
    return Generation.objects.exclude(proves=None).get()


def test_it_works(service: Service, alices_key: str, bobs_key: str) -> None:
    with service.client(alices_key) as alice, service.client(bobs_key) as bob:
        fields = {"prompt": "make it night", "num_inference_steps": "1"}
        made = alice.post("/image-to-image", data=fields, files={"image": photo(128, 128)}).json()["id"]
        assert bob.post(f"/generations/{made}/prove").status_code == 404
        accepted = alice.post(f"/generations/{made}/prove")
        assert accepted.status_code == 202
        record: dict[str, Any] = {}

        def has_ended() -> bool:
            record.update(alice.get(httpx.URL(accepted.headers["location"]).path).json())
            return record["state"] in ("succeeded", "failed", "canceled")

        wait_until(has_ended, "the end of the proof")
        assert record["proof"] == {
            "of": made,
            "identical": True,
            "pictures": [{"identical": True, "psnr": None, "largest_difference": 0}],
            "differences": [],
        }
        assert record["receipt"] == alice.get(f"/generations/{made}").json()["receipt"]
        assert record["cost"] > 0
        assert record["id"] not in alice.get("/generations").text
    assert "Bit-exact" in service.manage("prove", made)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        service.manage("prove", str(uuid4()))
    assert "There is no generation" in caught.value.stderr


def test_the_record_says_what_it_proves(api: Client, alice: User) -> None:
    generation = make_generation(alice)
    accepted = prove(api, generation.pk)
    assert accepted.status_code == 202
    body = accepted.json()
    assert body["proof"] == {"of": str(generation.pk), "identical": None, "pictures": [], "differences": None}
    assert (body["state"], body["parameters"]["prompt"]) == ("queued", "")
    assert accepted["Location"] == f"http://testserver/generations/{body['id']}"
    assert prove(api, generation.pk).json()["id"] == body["id"]
    proof = finish()
    assert api.get(f"/generations/{proof.pk}").json()["proof"] == {
        "of": str(generation.pk),
        "identical": False,
        **COMPARISON,
    }
    assert api.get(f"/generations/{generation.pk}").json()["proof"] is None


def test_what_cannot_be_proved_is_refused(api: Client, alice: User, bob: User) -> None:
    assert prove(api, make_generation(bob).pk).status_code == 404
    assert prove(api, uuid4()).status_code == 404
    failed = prove(api, make_generation(alice, State.FAILED).pk)
    assert (failed.status_code, failed.json()["detail"]["code"]) == (409, "not_provable")
    deleted = make_generation(alice)
    deletion.delete(deleted)
    assert prove(api, deleted.pk).status_code == 410
    assert not Generation.objects.exclude(proves=None).exists()


def test_it_counts_for_the_limits(api: Client, alice: User, settings: Any) -> None:
    settings.LIMITS = True
    alice.max_daily_cost = 0
    alice.save()
    refused = prove(api, make_generation(alice).pk)
    assert (refused.status_code, refused.json()["detail"]["code"]) == (429, "cost_exceeded")


def test_the_page_proves_and_shows_the_result(client: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice)
    page, address = (reverse(name, args=[generation.pk]) for name in ("generation", "prove"))
    assert client.post(address).status_code == 302
    client.force_login(bob)
    assert client.post(address).status_code == 404
    client.force_login(alice)
    assert "Prove it" in client.get(page).content.decode()
    assert client.post(address)["Location"] == f"{page}?receipt#receipt"
    waiting = squeeze(client.get(f"{page}?receipt").content.decode())
    assert 'id="receipt" open' in waiting
    assert "Being made again: queued." in waiting
    assert 'hx-trigger="every 2s"' in waiting
    finish()
    part = squeeze(client.get(address, headers={"HX-Request": "true"}).content.decode())
    assert part.startswith('<div class="proof" id="proof"')
    assert "every 2s" not in part
    assert "Not bit-exact: PSNR 52.5 dB, the largest difference is 3 of 255." in part
    assert '<th scope="row">dtype</th><td>float32</td><td>bfloat16</td>' in part
    assert "Prove it" in part
    assert str(Generation.objects.exclude(proves=None).get().pk) not in client.get("/history/").content.decode()


def test_the_page_says_why_it_cannot_be_proved(client: Client, alice: User) -> None:
    generation = make_generation(alice)
    Generation.objects.update(input="")
    client.force_login(alice)
    page, address = (reverse(name, args=[generation.pk]) for name in ("generation", "prove"))
    assert "so it cannot be made again" in client.get(page).content.decode()
    assert "so it cannot be made again" in client.post(address, follow=True).content.decode()
    part = client.post(address, headers={"HX-Request": "true"}).content.decode()
    assert 'role="alert"' in part


def test_staff_prove_on_their_own_account(client: Client, alice: User, charlie: User) -> None:
    generation = make_generation(alice)
    client.force_login(charlie)
    change = reverse("admin:generation_generation_change", args=[generation.pk])
    assert 'value="prove"' in client.get(change).content.decode()
    form = {"action": "prove", "_selected_action": str(generation.pk), "from_page": "yes"}
    changelist = reverse("admin:generation_generation_changelist")
    assert "Each is made again" in client.post(changelist, form).content.decode()
    client.post(changelist, {**form, "confirmed": "yes"})
    proof = finish()
    assert proof.user == charlie
    assert AuditEntry.objects.filter(action="generation.prove", actor_name="charlie").exists()
    page = client.get(change).content.decode()
    assert "Not bit-exact" in page
    assert "dtype: float32 then, bfloat16 now" in page
    own = client.get(reverse("admin:generation_generation_change", args=[proof.pk])).content.decode()
    assert f'Proof of</dt>\n  <dd><a href="{change}"' in own
    assert f"proof of {generation.pk}" in client.get(changelist).content.decode()
    client.force_login(alice)
    assert "Not bit-exact" not in client.get(reverse("generation", args=[generation.pk])).content.decode()
