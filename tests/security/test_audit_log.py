"""Attacks on the audit log: entries are changed in the database itself, requests leave none, pictures are read unseen."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from typing import Any, cast

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.test import Client
from django.urls import reverse

from accounts import append_only, audit
from accounts.models import AuditEntry, User
from generation.models import State
from tests.support.admin import LIST, change_page
from tests.support.generations import make_generation
from tests.support.roles import OPERATORS, REVIEWERS, staff
from tests.support.web_process import WebProcess

TABLE = AuditEntry._meta.db_table


@pytest.fixture
def three(charlie: User) -> list[AuditEntry]:
    """Three entries of charlie."""
    return [audit.record(charlie, "pool.pause", name, {"cost": 1.0}, {"cost": 0.5}) for name in ("a", "b", "c")]


def execute(sql: str, *values: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)


def verified(*arguments: str) -> str:
    output = StringIO()
    call_command("verify_audit", *arguments, stdout=output)
    return output.getvalue().strip()


def test_the_database_refuses_changes(three: list[AuditEntry]) -> None:
    editor = connection.SchemaEditorClass(connection)
    append_only.refuse_changes_of(TABLE).code(cast(Any, apps), editor)
    for sql in (
        "UPDATE accounts_auditentry SET actor_name = 'mallory'",
        "DELETE FROM accounts_auditentry",
        "INSERT OR REPLACE INTO accounts_auditentry SELECT * FROM accounts_auditentry",
    ):
        with pytest.raises(DatabaseError, match="append-only"):
            execute(sql)
    audit.record(None, "pool.resume", "a", None, None)
    assert AuditEntry.objects.count() == 4


def test_a_new_database_has_the_triggers(web: WebProcess) -> None:
    with closing(sqlite3.connect(web.data_dir / "db.sqlite3")) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", [TABLE])
        assert sorted(name for (name,) in found) == [f"{TABLE}_{verb}" for verb in ("delete", "replace", "update")]


def test_an_intact_log_is_verified(three: list[AuditEntry]) -> None:
    assert verified() == f"intact up to entry {three[2].pk}: {three[2].digest}"
    assert verified("--expect", three[0].digest) == verified()
    assert len({entry.digest for entry in three}) == 3


def test_an_empty_log_is_verified(db: None) -> None:
    assert verified() == "the audit log is empty"


@pytest.mark.parametrize(
    "attack",
    [
        lambda entry: execute("UPDATE accounts_auditentry SET actor_name = 'mallory' WHERE id = %s", entry.pk),
        lambda entry: execute("UPDATE accounts_auditentry SET after = '{}' WHERE id = %s", entry.pk),
        lambda entry: execute("DELETE FROM accounts_auditentry WHERE id = %s", entry.pk),
        lambda entry: execute("UPDATE accounts_auditentry SET digest = 'x' WHERE id = %s", entry.pk),
    ],
    ids=["actor", "values", "deletion", "digest"],
)
def test_changes_that_pass_the_triggers_are_noticed(
    three: list[AuditEntry], attack: Callable[[AuditEntry], None]
) -> None:
    attack(three[1])
    with pytest.raises(CommandError, match="was changed, added or removed"):
        verified()


def test_an_end_that_was_cut_off_is_noticed_by_a_digest_from_before(three: list[AuditEntry]) -> None:
    execute("DELETE FROM accounts_auditentry WHERE id = %s", three[2].pk)
    assert verified().startswith(f"intact up to entry {three[1].pk}")
    with pytest.raises(CommandError, match="No entry has that digest"):
        verified("--expect", three[2].digest)


def test_each_post_of_staff_leaves_an_entry(client: Client, alice: User, redis: None) -> None:
    client.force_login(staff("olga", OPERATORS))
    refused = reverse("admin:accounts_user_delete", args=[alice.pk])
    for address, status in ((refused, 403), ("/admin/nowhere/", 404), ("/admin/operations/pools/nope/pause", 404)):
        assert client.post(address, {"post": "yes"}).status_code == status
        entry = AuditEntry.objects.latest("id")
        assert (entry.actor_name, entry.action, entry.target) == ("olga", "admin.post", address)
        assert entry.after == {"status": status}
    client.post("/admin/operations/pools/default/pause")
    assert AuditEntry.objects.latest("id").action == "pool.pause"
    assert AuditEntry.objects.count() == 4


def test_what_asks_for_a_confirmation_or_renews_leaves_none(client: Client, alice: User, charlie: User) -> None:
    waiting = make_generation(alice, State.QUEUED)
    client.force_login(charlie)
    client.post(LIST, {"action": "cancel", "_selected_action": str(waiting.pk)})
    client.post("/admin/review/status")
    assert not AuditEntry.objects.exists()


def views() -> list[tuple[str, str]]:
    rows = AuditEntry.objects.filter(action="pictures.view").order_by("id")
    return [(row.actor_name, row.target) for row in rows]


def test_who_looks_at_pictures_of_others_is_recorded_once_in_a_while(
    client: Client, alice: User, charlie: User
) -> None:
    theirs, own = make_generation(alice), make_generation(charlie)
    client.force_login(charlie)
    for _ in range(2):
        client.get(change_page(theirs))
        client.get(change_page(own))
    assert views() == [("charlie", str(theirs.pk))]
    AuditEntry.objects.all()._raw_delete("default")
    for _ in range(2):
        client.get(LIST)
    (entry,) = AuditEntry.objects.all()
    assert entry.after == {"generations": [str(theirs.pk)]}
    client.get("/admin/")
    assert [target for _, target in views()][1:] == ["overview"]


def test_reviewers_leave_an_entry_with_the_pictures_that_they_see(client: Client, alice: User) -> None:
    image = make_generation(alice, flagged=[0]).images.get()
    client.force_login(staff("dora", REVIEWERS))
    for which in ("input", "result"):
        client.get(reverse("review-picture", args=[image.pk, which]))
    assert views() == [("dora", str(image.generation_id))]
