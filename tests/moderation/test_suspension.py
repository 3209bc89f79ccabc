"""Suspension and the requests that are being submitted at that moment: canceled or refused, but never left in the queue."""

import os
import subprocess
import sys
from io import BytesIO

import pytest

from accounts.models import ApiToken, User
from generation.api.errors import answer_exception
from generation.images.inputs import Inputs
from generation.images.uploads import read_upload
from generation.jobs import contact_sheets, submission
from generation.models import (
    ContactSheet,
    Generation,
    State,
)
from generation.moderation import suspension
from generation.parameters import ErrorCode, ImageToImageParameters
from tests.support import servers
from tests.support.environment import ROOT
from tests.support.generations import unnamed_files
from tests.support.pictures import photo

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


def inputs() -> Inputs:
    return Inputs(read_upload(BytesIO(photo()), max_pixels=1_000_000))


def build(token: ApiToken) -> Generation:
    return submission.build(
        submission.Request(token.user, token, ImageToImageParameters(prompt="make it night"), inputs())
    )


def test_a_request_that_was_authenticated_before_is_refused(alices: ApiToken, charlie: User) -> None:
    queued, late = submission.submit(build(alices), inputs()), build(alices)
    assert suspension.suspend(alices.user, by=charlie) == 1
    with pytest.raises(submission.Suspended) as refused:
        submission.submit(late, inputs())
    with pytest.raises(submission.Suspended):
        submission.estimate(late)
    answer = answer_exception(refused.value, {})
    assert (answer.status_code, answer.data["detail"]["code"]) == (401, ErrorCode.INVALID_TOKEN)
    assert answer["WWW-Authenticate"] == "Bearer"
    assert list(Generation.objects.values_list("pk", "state")) == [(queued.pk, State.CANCELED)]
    assert unnamed_files() == []


def test_a_contact_sheet_is_refused_too(alice: User, charlie: User) -> None:
    columns = contact_sheets.read_axis("columns", "seed", "1, 2")
    assert columns
    suspension.suspend(User.objects.get(pk=alice.pk), by=charlie)
    with pytest.raises(submission.Suspended):
        contact_sheets.submit_once(alice, {"prompt": "make it night"}, inputs(), contact_sheets.Grid(columns, None))
    assert not Generation.objects.exists()
    assert not ContactSheet.objects.exists()
    assert unnamed_files() == []


RACE = """
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from django.db import connection, connections, transaction
from accounts.models import User
from generation.images.inputs import Inputs
from generation.images.uploads import read_upload
from generation.jobs import submission
from generation.models import Generation
from generation.moderation import suspension
from generation.parameters import ImageToImageParameters
from tests.support.service import wait_until

alice = User.objects.create_user("alice")
admin = User.objects.create_superuser("admin")
inputs = Inputs(read_upload(BytesIO(open("dreamsite/static/sample.jpg", "rb").read()), max_pixels=50_000_000))

def suspend():
    try:
        return suspension.suspend(User.objects.get(username="alice"), by=admin)
    finally:
        connections.close_all()

def waits_for_a_lock():
    with connection.cursor() as cursor:
        # Not pg_stat_activity, which tells a transaction of the connections when it first asked alone.
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0]

with ThreadPoolExecutor(1) as pool:
    with transaction.atomic():
        # It has seen that its user is active, and is not committed yet.
        parameters = ImageToImageParameters(prompt="make it night")
        submission.submit(submission.build(submission.Request(alice, None, parameters, inputs)), inputs)
        suspended = pool.submit(suspend)
        wait_until(lambda: suspended.done() or waits_for_a_lock(), "the suspension's wait for the lock")
        print("waits" if not suspended.done() else "does not wait")
    print(suspended.result(), *Generation.objects.values_list("state", flat=True))
"""


def test_on_postgresql_it_waits_for_requests_that_are_being_submitted() -> None:
    with servers.postgresql() as database, servers.redis_server() as redis:
        environment = {**os.environ, "DATABASE_URL": database.url, "REDIS_URL": redis.url}

        def manage(*arguments: str) -> str:
            command = [sys.executable, "manage.py", *arguments]
            return subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            ).stdout

        manage("migrate", "-v", "0")
        assert manage("shell", "-v", "0", "-c", RACE).splitlines() == ["waits", "1 canceled"]
