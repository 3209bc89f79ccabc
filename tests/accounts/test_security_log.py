"""The security log: each event is one JSON line, and none has a secret."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts import audit
from accounts.models import ApiToken, AuditEntry, User
from accounts.security_log import JsonLines
from dreamsite.checks import check_settings
from generation.library import sharing
from generation.models import ShareLink
from generation.moderation import suspension
from tests.support.environment import ROOT
from tests.support.generations import make_generation

RIGHT = {"username": "alice", "password": "alice-password"}
WRITE_LINE = """
import django
django.setup()
from accounts import security_log
security_log.log("token.issue", user="alice")
"""


class Lines:
    """What was logged since the last look."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def take(self) -> list[dict[str, Any]]:
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return [json.loads(line) for line in text.splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.take()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    handler = logging.StreamHandler(lines.stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("dreamsite.security")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_sign_ins_and_wrong_passwords(client: Client, alice: User, lines: Lines, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    client.post("/accounts/sign-in", RIGHT)
    (start,) = lines.take()
    assert (start["event"], start["user"], start["address"]) == ("session.start", "alice", "127.0.0.1")
    assert start["route"] == "accounts/sign-in"
    client.post("/accounts/sign-out")
    (end,) = lines.take()
    assert (end["event"], end["user"]) == ("session.end", "alice")
    for _ in range(2):
        client.post("/accounts/sign-in", {**RIGHT, "password": "my-secret-guess"})
    taken = lines.take()
    assert sorted(line["event"] for line in taken) == ["password.lock_out", "password.refuse", "password.refuse"]
    assert "my-secret-guess" not in json.dumps(taken)


def test_a_password_in_the_field_of_the_name_is_not_logged(client: Client, alice: User, lines: Lines) -> None:
    client.post("/accounts/sign-in", {"username": "alice-password", "password": "alice"})
    client.post("/accounts/sign-in", {"username": "alice", "password": "x"})
    assert [line.get("user") for line in lines.take()] == [None, "alice"]


def test_tokens_and_passwords(client: Client, alice: User, lines: Lines) -> None:
    client.post("/accounts/sign-in", RIGHT)
    client.post("/tokens/", {"name": "laptop"})
    token, raw = ApiToken.objects.issue(alice, "phone")
    client.get("/models", headers={"Authorization": f"Bearer {raw}x"})
    client.get("/models")
    client.post(f"/tokens/{token.pk}/revoke")
    new = {"password": "alice-password", "new_password1": "quite-another-1", "new_password2": "quite-another-1"}
    client.post("/accounts/password", {**new, "revoke_tokens": "on"})
    taken = lines.take()
    assert [line["event"] for line in taken] == [
        *("session.start", "token.issue", "token.issue", "token.refuse", "token.revoke"),
        *("password.change", "token.revoke_all"),
    ]
    assert [line.get("user") for line in taken] == [*["alice"] * 3, None, *["alice"] * 3]
    text = json.dumps(taken)
    assert token.prefix in text
    assert all(secret not in text for secret in (raw, "alice-password", "quite-another-1"))


def test_exports_and_share_links(client: Client, alice: User, lines: Lines) -> None:
    client.post("/accounts/sign-in", RIGHT)
    client.post("/settings/export")
    link = sharing.share(make_generation(alice), 0, None)
    sharing.revoke(ShareLink.objects.all())
    taken = lines.take()
    assert [line["event"] for line in taken] == ["session.start", "export.request", "share.create", "share.revoke"]
    assert taken[2]["link"] == link.pk
    assert link.code not in json.dumps(taken)


def test_what_is_forbidden_is_logged_without_the_code_in_its_path(alice: User, lines: Lines) -> None:
    link = sharing.share(make_generation(alice), 0, None)
    lines.take()
    assert Client(enforce_csrf_checks=True).post(f"/s/{link.code}/report").status_code == 403
    (line,) = lines.take()
    assert (line["event"], line["method"], line["route"]) == ("request.forbid", "POST", "s/<str:code>/report")
    assert link.code not in json.dumps(line)


def test_an_audit_entry_is_logged_with_its_digest_once_it_is_committed(
    alice: User, charlie: User, lines: Lines, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        suspension.suspend(alice, by=charlie)
        assert lines.take() == []
    (line,) = lines.take()
    entry = AuditEntry.objects.get()
    assert (line["event"], line["action"], line["user"]) == ("audit.record", "user.suspend", "charlie")
    assert (line["target"], line["entry"], line["digest"]) == (str(alice.pk), entry.pk, entry.digest)
    assert audit.verify(line["digest"]) == entry


def test_a_line_cannot_be_forged(client: Client, db: None, lines: Lines) -> None:
    name = 'x"}\r\n\u2028{"event": "forged"}'
    User.objects.create(username=name)
    client.post("/accounts/sign-in", {"username": name, "password": "x"})
    client.get("/models", headers={"Authorization": "Bearer x", "X-Request-Id": '{"event": "forged"}'})
    text = lines.stream.getvalue()
    assert text.isascii()
    assert lines.events() == ["password.refuse", "token.refuse"]


@pytest.mark.parametrize("is_file", [True, False])
def test_lines_go_to_the_file_or_the_error_output(tmp_path: Path, is_file: bool) -> None:
    file = tmp_path / "security.log"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "dreamsite.settings", "DATA_DIR": str(tmp_path)}
    if is_file:
        environment["SECURITY_LOG"] = str(file)
    process = [sys.executable, "-c", WRITE_LINE]
    errors = subprocess.run(process, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=True).stderr
    line = json.loads(file.read_text() if is_file else errors)
    assert (line["event"], line["user"]) == ("token.issue", "alice")
    assert not is_file or errors == ""


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, settings: Any) -> None:
    settings.SECURITY_LOG = str(tmp_path / "security.log")
    assert check_settings(None) == []
    settings.SECURITY_LOG = str(tmp_path / "missing" / "security.log")
    (error,) = check_settings(None)
    assert "SECURITY_LOG" in error.msg
