"""The audit log: changes by staff are recorded with values before and after and the request id, and cannot be edited."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts import audit, request_ids
from accounts.admin_tools import csv_export
from accounts.append_only import Unchangeable
from accounts.models import ApiToken, AuditEntry, User
from generation.models import DiffusionModel, State
from generation.repositories.files import BUNDLED
from tests.support.admin import audited_changes, inspected, model_form
from tests.support.generations import make_generation

LIST = "/admin/accounts/auditentry/"


@pytest.fixture
def staff(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def test_it_works(charlie: User, alice: User) -> None:
    with request_ids.bind("request-1"):
        audit.record(charlie, "user.change", alice, {"max_queued": None}, {"max_queued": 3})
        audit.record(None, "worker.drain", "here-1", None, {"draining": True})
    drain, change = AuditEntry.objects.all()
    assert (change.actor_name, change.action, change.kind, change.target) == (
        "charlie",
        "user.change",
        "accounts.user",
        str(alice.pk),
    )
    assert (change.before, change.after, change.request_id) == ({"max_queued": None}, {"max_queued": 3}, "request-1")
    assert (drain.actor_id, drain.kind, drain.target) == (None, "worker", "here-1")


def test_the_list_shows_values_as_they_are_and_folds_long_lists(staff: Client, charlie: User, alice: User) -> None:
    audit.record(charlie, "user.change", alice, {"groups": ["a"]}, {"groups": ["a", "b"]})
    audit.record(charlie, audit.VIEW, "list", None, {"generations": ["c", "d", "e", "f"]})
    page = staff.get(LIST).content.decode()
    assert "<div>groups: a → a, b</div>" in page
    assert "<details><summary>generations: 4</summary>c, d, e, f</details>" in page


def test_nobody_edits_or_deletes_an_entry(staff: Client, charlie: User) -> None:
    entry = audit.record(charlie, "pool.pause", "default", None, None)
    entry.action = "other"
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(action="other"),
        lambda: AuditEntry.objects.filter(pk=entry.pk).update(action="other"),
    ):
        with pytest.raises(Unchangeable, match="cannot be changed"):
            change()
    assert staff.post(f"{LIST}{entry.pk}/change/", {"action": "other"}).status_code == 403
    assert staff.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get(f"{LIST}add/").status_code == 403
    staff.post(LIST, {"action": "delete_selected", "_selected_action": str(entry.pk), "post": "yes"})
    assert audited_changes().get().action == "pool.pause"


def test_an_entry_outlives_its_actor(charlie: User) -> None:
    audit.record(charlie, "pool.pause", "default", None, None)
    pk = charlie.pk
    charlie.delete()
    entry = AuditEntry.objects.get()
    assert (entry.actor_id, entry.actor_name) == (pk, "charlie")


def test_changes_in_the_admin_are_recorded(staff: Client, alice: User, tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone/model").symlink_to(BUNDLED / "tiny-edit")
    form = model_form(max_steps="8")
    _, token = inspected(staff, "diffusionmodel", "someone/model")
    staff.post("/admin/generation/diffusionmodel/add/", form | {"inspection": token})
    staff.post("/admin/generation/diffusionmodel/someone_2Fmodel/change/", form | {"max_steps": "9"})
    staff.post("/admin/generation/diffusionmodel/someone_2Fmodel/change/", form | {"max_steps": "9"})
    staff.post("/admin/generation/diffusionmodel/someone_2Fmodel/delete/", {"post": "yes"})
    entries: list[Any] = list(audited_changes().order_by("id").values_list("action", "target", "before", "after"))
    assert entries[0][:3] == ("diffusionmodel.inspect", "someone/model", None)
    assert entries[0][3]["download_bytes"] > 9_000_000
    assert entries[1][:3] == ("diffusionmodel.add", "someone/model", None)
    assert entries[1][3]["max_steps"] == 8
    assert entries[2:] == [
        ("diffusionmodel.change", "someone/model", {"max_steps": 8}, {"max_steps": 9}),
        ("diffusionmodel.delete", "someone/model", {"name": "someone/model"}, None),
    ]


def test_actions_in_the_admin_are_recorded(staff: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    staff.post("/admin/accounts/apitoken/", {"action": "revoke", "_selected_action": token.pk})
    DiffusionModel.objects.filter(id="stabilityai/sd-turbo").update(enabled=True)
    chosen = {"action": "make_default", "_selected_action": "stabilityai/sd-turbo"}
    staff.post("/admin/generation/diffusionmodel/", chosen)
    actions = list(audited_changes().order_by("id").values_list("action", "before__default", "after__default"))
    assert actions == [
        ("apitoken.revoke", None, None),
        ("diffusionmodel.default", "dreamsite/tiny-edit", "stabilityai/sd-turbo"),
    ]


def test_changes_of_passwords_and_permissions_are_recorded_without_secrets(staff: Client, alice: User) -> None:
    secret = "long-and-unusual-1"
    form = {"usable_password": "true", "password1": secret, "password2": secret}
    staff.post("/admin/accounts/user/add/", {"username": "dora", **form})
    staff.post(f"/admin/accounts/user/{alice.pk}/password/", form)
    staff.post("/admin/auth/group/add/", {"name": "Friends"})
    assert list(audited_changes().order_by("id").values_list("action", flat=True)) == [
        "user.add",
        "user.password",
        "group.add",
    ]
    assert secret not in json.dumps(list(AuditEntry.objects.values("before", "after")))
    assert Group.objects.filter(name="Friends").exists()


def test_the_page_filters_searches_and_exports(staff: Client, charlie: User, alice: User) -> None:
    generation = make_generation(alice, State.FAILED)
    with request_ids.bind("request-7"):
        audit.record(charlie, "generation.retry", generation, None, {"made": "=1+1"})
    audit.record(alice, "worker.drain", "=cmd", None, None)
    page = staff.get(LIST).content.decode()
    assert "worker.drain" in page
    assert f'<a href="/admin/generation/generation/{generation.pk}/change/">' in page
    assert "made: =1+1" in page
    for query in ({"by": "charlie"}, {"action": "generation.retry"}, {"q": "request-7"}, {"q": str(generation.pk)}):
        page = staff.get(LIST, query).content.decode()
        assert "generation.retry" in page
        assert "=cmd" not in page
    answer = staff.get(f"{LIST}export/", {"by": "alice"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    lines = b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "when,actor_name,action,kind,target,before,after,request_id"
    assert len(lines) == 2
    assert ",alice,worker.drain,worker,'=cmd,,," in lines[1]
    answer = staff.get(f"{LIST}export/", {"by": "charlie"})
    lines = b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()  # type: ignore[attr-defined]
    assert '"{""made"": ""=1+1""}",request-7' in lines[1]


@pytest.mark.parametrize("year", ["9" * 30, "9" * 5000, "-1", "nan", "\0"])
def test_invalid_years_redirect_to_the_list(staff: Client, year: str) -> None:
    for address in (LIST, f"{LIST}export/"):
        answer = staff.get(address, {"when__year": year}, follow=True)
        assert answer.redirect_chain == [(f"{LIST}?e=1", 302)]
        assert answer.status_code == 200


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\r=1"])
def test_exported_texts_are_no_formulas(text: str) -> None:
    assert csv_export.cell(text) == f"'{text}"
    assert csv_export.cell(-1.5) == -1.5
