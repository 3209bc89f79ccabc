"""Retention rules, their previews and bounded steps, and legal holds."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, User
from generation.library import deletion
from generation.maintenance import reaper, retention
from generation.models import (
    Generation,
    RetentionRule,
    State,
)
from tests.support.generations import existing, files_of, half_mask, make_generation, unnamed_files
from tests.support.html import squeeze
from tests.support.pictures import scene

PAGE = "/admin/operations/retention/"

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit", "_no_rules")


@pytest.fixture
def _no_rules(db: None) -> None:
    RetentionRule.objects.all().delete()


def create_old(user: User, days: float, state: State = State.SUCCEEDED, **fields: Any) -> Generation:
    return make_generation(user, state, created=timezone.now() - timedelta(days=days), **fields)


def rule(what: RetentionRule.What, days: int = 30, **fields: Any) -> RetentionRule:
    return RetentionRule.objects.create(what=what, days=days, **fields)


@pytest.fixture
def operator(client: Client, bob: User) -> Client:
    """Bob is staff, of the group that migrations let operate."""
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.groups.add(Group.objects.get(name="Operators"))
    client.force_login(bob)
    return client


def test_what_each_kind_of_rule_removes(alice: User) -> None:
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32)]}
    old, young = create_old(alice, 31, **inputs), create_old(alice, 29, **inputs)
    names = files_of(old)[:6]
    assert retention.step(rule(RetentionRule.What.UPLOADS), 10) == 1
    old.refresh_from_db()
    assert (old.input_file_names, old.input_bytes, old.open_share) == ([], 0, 0.5)
    assert existing(names) == []
    assert existing(files_of(young)) == files_of(young)
    assert default_storage.exists(str(old.images.get().file.name))
    assert (old.prompt, old.deleted) == ("make it night", None)

    assert retention.step(rule(RetentionRule.What.CONTENT), 10) == 1
    old.refresh_from_db()
    assert (old.prompt, old.deleted is not None, bool(old.images.get().file)) == ("", True, False)

    assert retention.step(rule(RetentionRule.What.ROWS), 10) == 1
    assert list(Generation.objects.all()) == [young]
    assert unnamed_files() == []


def test_a_rule_of_uploads_removes_inputs_whose_picture_was_never_fetched(alice: User) -> None:
    masked = create_old(alice, 31, State.FAILED, mask=half_mask(96, 64))
    referencing = create_old(alice, 31, State.FAILED, references=[scene(32, 32)])
    Generation.objects.update(input="", input_thumbnail="")
    names = [*files_of(masked)[2:], *files_of(referencing)[2:]]
    assert existing(names) == names
    uploads = rule(RetentionRule.What.UPLOADS)
    assert retention.preview(uploads).count == 2
    assert retention.step(uploads, 10) == 2
    assert existing(names) == []
    assert retention.preview(uploads).count == 0


def test_a_rule_applies_to_one_or_all_final_states(alice: User) -> None:
    failed, _, queued = create_old(alice, 9, State.FAILED), create_old(alice, 9), create_old(alice, 9, State.QUEUED)
    assert retention.step(rule(RetentionRule.What.ROWS, 7, state="failed"), 10) == 1
    assert not Generation.objects.filter(pk=failed.pk).exists()
    assert retention.step(rule(RetentionRule.What.ROWS, 7), 10) == 1
    assert list(Generation.objects.all()) == [queued]


def test_steps_are_bounded_and_continue(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SCAN_LIMIT", 4)
    for number in range(10):
        create_old(alice, 50 - number, State.FAILED if number % 2 else State.SUCCEEDED)
    one_rule = rule(RetentionRule.What.CONTENT, state="failed", enabled=True)
    counts = []
    for _ in range(8):
        one_rule.refresh_from_db()
        counts.append(retention.step(one_rule, 1))
    assert sum(counts) == 5
    assert max(counts) == 1
    one_rule.refresh_from_db()
    assert (one_rule.is_finished, one_rule.deleted_count) == (True, 5)
    audited = AuditEntry.objects.get(action="retention.round")
    assert audited.after == {"rule": "all pictures and words of failed after 30 days", "generations": 5}
    with CaptureQueriesContext(connection) as queries:
        assert retention.step_all() == 0
    assert len(queries) <= 3
    RetentionRule.objects.update(started=timezone.now() - timedelta(days=2))
    one_rule.refresh_from_db()
    retention.step(one_rule, 1)
    assert (one_rule.deleted_count, one_rule.is_finished) == (0, False)


def test_a_round_is_audited_although_its_last_step_changes_nothing(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SCAN_LIMIT", 2)
    for number in range(5):
        create_old(alice, 50 - number, State.FAILED if number < 2 else State.SUCCEEDED)
    one_rule = rule(RetentionRule.What.CONTENT, state="failed")
    assert [retention.step(one_rule, 10) for _ in range(5)] == [2, 0, 0, 0, 0]
    assert AuditEntry.objects.get(action="retention.round", after__generations=2)
    # Generations that become old enough within the day are audited too.
    late = create_old(alice, 29, State.FAILED)
    RetentionRule.objects.filter(pk=one_rule.pk).update(days=28)
    one_rule.refresh_from_db()
    assert [retention.step(one_rule, 10) for _ in range(2)] == [1, 0]
    assert Generation.objects.get(pk=late.pk).deleted
    assert AuditEntry.objects.filter(action="retention.round").count() == 2


def test_two_runs_of_a_rule_at_once_count_together(alice: User) -> None:
    create_old(alice, 40)
    one_rule = rule(RetentionRule.What.CONTENT)
    other, late = RetentionRule.objects.get(pk=one_rule.pk), RetentionRule.objects.get(pk=one_rule.pk)
    assert retention.step(other, 10) == 1
    create_old(alice, 39)
    assert [retention.step(one_rule, 10), retention.step(late, 10)] == [1, 0]
    assert RetentionRule.objects.get(pk=one_rule.pk).deleted_count == one_rule.deleted_count == 2


def test_the_reaper_applies_enabled_rules(alice: User) -> None:
    old = create_old(alice, 31)
    by_hand = rule(RetentionRule.What.CONTENT)
    reaper.reap()
    assert Generation.objects.get(pk=old.pk).deleted is None
    RetentionRule.objects.filter(pk=by_hand.pk).update(enabled=True)
    reaper.reap()
    assert Generation.objects.get(pk=old.pk).deleted


def test_files_are_deleted_once_the_storage_is_back(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    old = create_old(alice, 31)
    name = str(old.input.name)
    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "delete", lambda name: (_ for _ in ()).throw(OSError("away")))
        assert retention.step(rule(RetentionRule.What.ROWS), 10) == 1
    assert default_storage.exists(name)
    assert not Generation.objects.exists()
    reaper.reap(timedelta(0))
    assert not default_storage.exists(name)


def test_a_legal_hold_prevents_deletion(client: Client, alice: User, alices_token: str) -> None:
    old = create_old(alice, 31)
    assert retention.hold(Generation.objects.filter(pk=old.pk)) == 1
    for what in RetentionRule.What:
        assert retention.step(rule(what), 10) == 0
    assert not deletion.delete(old)
    answer = client.delete(f"/generations/{old.pk}", headers={"Authorization": f"Bearer {alices_token}"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (409, "on_hold")
    assert "Staff must keep this generation for now" in answer.json()["detail"]["msg"]
    retention.lift_hold(Generation.objects.filter(pk=old.pk))
    assert deletion.delete(old)


def test_the_page_previews_runs_and_holds(operator: Client, alice: User) -> None:
    old, other = create_old(alice, 31), create_old(alice, 40)
    create_old(alice, 2)
    assert "There is no rule" in operator.get(PAGE).content.decode()
    form = {"what": "content", "state": "", "days": "30"}
    page = operator.post("/admin/generation/retentionrule/add/", form, follow=True).content.decode()
    assert "All pictures and words of all after 30 days" in page
    assert "Run now" not in page
    page = squeeze(operator.get(PAGE, {"preview": ""}).content.decode())
    assert "Run now" in page
    assert f"2 generations, the oldest of {other.created:%Y-%m-%d}" in page
    assert Generation.objects.filter(deleted=None).count() == 3

    def put(**form: str) -> str:
        return operator.post("/admin/operations/hold", {"reason": "a claim", **form}, follow=True).content.decode()

    assert "Nothing changed: say why." in put(id=str(old.pk), reason=" ")
    assert "is on legal hold" in put(id=str(old.pk))
    assert "is not the id of a generation" in put(id="x")
    assert "There is no generation with this id" in put(id=str(uuid4()))
    assert "on hold already" in put(id=str(old.pk))
    assert "1 generation, the oldest" in squeeze(operator.get(PAGE, {"preview": ""}).content.decode())
    page = operator.post(f"{PAGE}{RetentionRule.objects.get().pk}/run", follow=True).content.decode()
    assert "applied to 1 generation. Nothing more is due now." in page
    assert "is no longer on legal hold." in put(id=str(old.pk), lift="yes")
    # What was refused is in the log as `admin.post`.
    changes = AuditEntry.objects.exclude(action__in=("retention.round", "admin.post"))
    actions = list(changes.order_by("pk").values_list("action", flat=True))
    assert actions[1:] == ["generation.hold", "retention.run", "generation.lift_hold"]
    assert Generation.objects.filter(deleted=None).count() == 2


def test_a_reason_is_stored_without_nul(alice: User, bob: User) -> None:
    old = create_old(alice, 31)
    with pytest.raises(retention.HoldRefused, match="say why"):
        retention.set_hold(old.pk, True, bob, "\0 ")
    retention.set_hold(old.pk, True, bob, "case\0 7 ")
    assert AuditEntry.objects.get().after == {"legal_hold": True, "reason": "case 7"}


def test_staff_without_the_permission_cannot_see_or_run_rules(client: Client, alice: User, bob: User) -> None:
    one_rule = rule(RetentionRule.What.ROWS)
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    client.force_login(bob)
    assert client.get(PAGE).status_code == 403
    assert client.post(f"{PAGE}{one_rule.pk}/run").status_code == 403
    assert client.post("/admin/operations/hold", {"id": "x"}).status_code == 403
    assert client.get("/admin/generation/retentionrule/").status_code == 403


def test_a_page_without_its_upload_says_so(client: Client, alice: User) -> None:
    old = create_old(alice, 31)
    retention.step(rule(RetentionRule.What.UPLOADS), 10)
    client.force_login(alice)
    page = client.get(f"/history/{old.pk}/").content.decode()
    assert "input, removed" in page
    assert client.get("/history/").status_code == 200


def test_a_run_by_staff_includes_generations_whose_hold_was_lifted(operator: Client, alice: User) -> None:
    row, one_rule = create_old(alice, 31), rule(RetentionRule.What.UPLOADS)
    retention.hold(Generation.objects.filter(pk=row.pk))
    run = f"{PAGE}{one_rule.pk}/run"
    assert "applied to 0 generations" in operator.post(run, follow=True).content.decode()
    retention.lift_hold(Generation.objects.filter(pk=row.pk))
    assert "applied to 1 generation." in operator.post(run, follow=True).content.decode()
