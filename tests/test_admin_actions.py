"""What staff do in the admin: retry, cancel, delete, decide, export, suspend; each asked for first, and in the audit log."""

import csv
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, AuditEntry, User
from generation import media, queue, retry
from generation.models import GeneratedImage, Generation, State
from generation.models.review import ReviewDecision
from generation.staff import filters
from tests.generations import make_generation
from tests.roles import OPERATORS, REVIEWERS, staff
from tests.test_admin import LIST, change_page, listed

PEOPLE = "/admin/accounts/user/"
pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def desk(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def act(client: Client, action: str, *chosen: Any, at: str = LIST, **fields: str) -> str:
    form = {"action": action, "_selected_action": [str(row.pk) for row in chosen], **fields}
    answer = client.post(at, form, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_asks_first(desk: Client, alice: User) -> None:
    waiting = make_generation(alice, State.QUEUED, prompt="make it <night>")
    page = act(desk, "cancel", waiting)
    assert "What waits is canceled at once" in page
    assert "make it &lt;night&gt;" in page
    assert "Cancel: 1" in page
    waiting.refresh_from_db()
    assert waiting.state == State.QUEUED
    assert "1 canceled." in act(desk, "cancel", waiting, confirmed="yes")
    waiting.refresh_from_db()
    assert waiting.state == State.CANCELED
    assert AuditEntry.objects.get().action == "generation.cancel"


def test_a_retry_is_a_new_generation_of_the_same(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    old = make_generation(alice, State.FAILED, token=token, num_images_per_prompt=2, guidance_scale=3)
    running = make_generation(alice, State.RUNNING)
    page = act(desk, "retry", old, running, confirmed="yes")
    assert "1 queued again." in page
    assert "1 not queued again: it has not ended yet." in page
    made = Generation.objects.latest("pk")
    assert (made.state, made.user, made.token, made.prompt) == (State.QUEUED, alice, token, old.prompt)
    assert made.recipe == old.recipe
    assert (made.input_sha256, made.input_width) == (old.input_sha256, old.input_width)
    assert made.input.name != old.input.name
    assert media.read(str(made.input.name)) == media.read(str(old.input.name))
    assert AuditEntry.objects.get().after == {"made": str(made.pk)}
    assert queue.claim("default", "here-1") == [made]


def test_a_retry_keeps_random_seeds_and_needs_no_token(alice: User) -> None:
    old = make_generation(alice, State.FAILED)
    old.parameters["seed"] = None
    made = retry.again(old)
    assert made.token is None
    assert made.recipe["seeds"] == old.recipe["seeds"]


def test_what_cannot_be_made_again_is_told(desk: Client, alice: User) -> None:
    gone = make_generation(alice)
    act(desk, "delete_for_good", gone, confirmed="yes")
    assert "its picture was deleted" in act(desk, "retry", gone, confirmed="yes")
    User.objects.filter(pk=alice.pk).update(max_queued=0)
    assert "requests of yours are waiting" in act(desk, "retry", make_generation(alice), confirmed="yes")
    assert Generation.objects.count() == 2


def test_delete_takes_the_files_too(desk: Client, alice: User) -> None:
    generation = make_generation(alice)
    file = generation.images.get().file
    assert "nothing brings them back" in act(desk, "delete_for_good", generation)
    assert "1 deleted." in act(desk, "delete_for_good", generation, confirmed="yes")
    assert not file.storage.exists(str(file.name))
    assert "Its pictures were deleted." in desk.get(change_page(generation)).content.decode()


def test_pictures_are_decided_from_the_list(desk: Client, alice: User) -> None:
    one = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    plain = make_generation(alice)
    assert 'name="reason"' in act(desk, "confirm_flag", one)
    assert "Say why it is confirmed" in act(desk, "confirm_flag", one, confirmed="yes")
    act(desk, "confirm_flag", one, plain, confirmed="yes", reason="violence")
    assert list(GeneratedImage.objects.order_by("pk").values_list("review", "nsfw")) == [
        ("", False),
        ("confirmed", True),
        ("confirmed", True),
    ]
    assert listed(desk, review="confirmed") == listed(desk, flagged="yes") == [plain.pk, one.pk]
    act(desk, "mark_safe", one, confirmed="yes")
    assert listed(desk, review="safe") == [one.pk]
    assert listed(desk, flagged="yes") == [plain.pk]
    assert ReviewDecision.objects.count() == 4
    assert "no picture that it would change" in act(desk, "mark_safe", one, confirmed="yes")


def test_each_action_asks_for_its_own_right(client: Client, alice: User) -> None:
    generation = make_generation(alice, flagged=[0])
    offered = {}
    for role in (REVIEWERS, OPERATORS):
        client.force_login(staff(role, role))
        page = client.get(LIST).content.decode()
        every = ("retry", "cancel", "delete_for_good", "mark_safe", "confirm_flag", "export", "delete_selected")
        offered[role] = {action for action in every if f'<option value="{action}">' in page}
    assert offered == {REVIEWERS: {"mark_safe", "confirm_flag"}, OPERATORS: {"retry", "cancel", "export"}}
    act(client, "mark_safe", generation, confirmed="yes")
    act(client, "delete_for_good", generation, confirmed="yes")
    assert not ReviewDecision.objects.exists()
    assert Generation.objects.get().deleted is None


def test_an_export_is_safe_to_open(desk: Client, alice: User) -> None:
    first = make_generation(alice, prompt='=HYPERLINK("http://x")', num_images_per_prompt=2, flagged=[0])
    second = make_generation(alice, State.FAILED, prompt="a, \n b")
    form = {"action": "export", "_selected_action": [str(first.pk), str(second.pk)]}
    answer: Any = desk.post(LIST, form)
    assert answer.streaming
    assert answer["Content-Disposition"].startswith('attachment; filename="generations-')
    rows = list(csv.DictReader(StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == [str(second.pk), str(first.pk)]
    assert rows[1]["prompt"] == '\'=HYPERLINK("http://x")'
    assert rows[0]["prompt"] == "a, \n b"
    assert (rows[1]["flagged"], rows[1]["highest score"], rows[1]["seeds"]) == ("1", "0.93", "1207 1208")
    assert AuditEntry.objects.get().action == "generation.export"


def test_filters_narrow_by_date_token_error_and_file(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    old = make_generation(alice, created=datetime(2025, 3, 31, 23, 59, 59, tzinfo=UTC), token=token)
    april = make_generation(alice, created=datetime(2025, 4, 1, tzinfo=UTC))
    failed = make_generation(alice, State.FAILED, seed=99)
    for date, found in (
        ("2025", [april, old]),
        ("2025-03", [old]),
        ("2025-03-31", [old]),
        ("2025-04-01", [april]),
        (f"{timezone.localdate():%Y-%m-%d}", [failed]),
        ("1969", [failed, april, old]),
        ("2025-13", [failed, april, old]),
        ("9999-12-31", [failed, april, old]),
    ):
        assert listed(desk, date=date) == [row.pk for row in found]
    page = desk.get(LIST, {"date": "2025"}).content.decode()
    assert re_dates(page) == ["2025", "2025-12", *(f"2025-{month:02d}" for month in range(11, 2, -1))]
    assert "Monday, 31 March 2025" in desk.get(LIST, {"date": "2025-03"}).content.decode()
    assert listed(desk, token=token.prefix) == listed(desk, token=token.prefix[:9] + "…") == [old.pk]
    assert listed(desk, token="nothing") == []
    assert listed(desk, error="out_of_memory") == [failed.pk]
    assert listed(desk, q=f"{99:064x}") == [failed.pk]


def re_dates(page: str) -> list[str]:
    listing = page.partition('<ul class="by-date">')[2].partition("</ul>")[0]
    return [text.partition('"')[0] for text in listing.split("?date=")[1:]]


@pytest.mark.parametrize("text", ["", "2025-02-29", "20255", "2025-1", "0000", "٢٠٢٥", "9999"])
def test_odd_periods_are_none(text: str) -> None:
    assert filters.period(text) is None


def test_the_page_of_a_generation_tells_what_happened(desk: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    act(desk, "confirm_flag", generation, confirmed="yes", reason="other", note="a note")
    page = desk.get(change_page(generation), {"picture": "2"}).content.decode()
    story = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
    for words in ("asked for <em>by alice", "started <em>by here-1", "succeeded in 2.4 s"):
        assert words in story
    assert "picture 2 reviewed: confirmed, other “a note” <em>by charlie" in story
    assert "Show the result, which is flagged" in page


def test_a_person_page_tells_use_limits_flags_and_tokens(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "my laptop")
    make_generation(alice, flagged=[0])
    make_generation(alice, State.QUEUED)
    page = desk.get(f"{PEOPLE}{alice.pk}/change/").content.decode()
    for words in (
        "2 in all",
        "1 waiting, 0 running now",
        "4 running at once, 100 queued at once",
        "1 waiting for review",
    ):
        assert words in page
    assert f"{token.prefix}…</a> my laptop, usable" in page


def test_a_suspended_person_is_out_at_once_and_comes_back(client: Client, alice: User, bob: User) -> None:
    _, raw = ApiToken.objects.issue(alice, "laptop")
    waiting, running = make_generation(alice, State.QUEUED), make_generation(alice, State.RUNNING)
    other = make_generation(bob, State.QUEUED)
    theirs = Client()
    theirs.force_login(alice)
    client.force_login(staff("olga", OPERATORS))
    assert "Their tokens and sessions are refused from now on" in act(client, "suspend", alice, at=PEOPLE)
    assert ApiToken.objects.authenticate(raw) is not None
    page = act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert "Suspended alice; of their generations 2 were canceled." in page
    assert ApiToken.objects.authenticate(raw) is None
    assert theirs.get("/history/")["Location"].startswith("/accounts/sign-in")
    for row in (waiting, running, other):
        row.refresh_from_db()
    assert (waiting.state, running.cancel_requested is not None, other.state) == ("canceled", True, "queued")
    assert "Let alice in again." in act(client, "lift", alice, at=PEOPLE, confirmed="yes")
    assert ApiToken.objects.authenticate(raw) is not None
    assert "Nothing to lift: alice was not suspended." in act(client, "lift", alice, at=PEOPLE, confirmed="yes")
    assert list(AuditEntry.objects.values_list("action", flat=True)) == ["user.lift", "user.suspend"]


def test_operators_suspend_no_staff_and_nobody_suspends_themselves(client: Client, alice: User, charlie: User) -> None:
    olga = staff("olga", OPERATORS)
    client.force_login(olga)
    assert "Nothing changed for charlie: only superusers suspend staff." in act(
        client, "suspend", charlie, at=PEOPLE, confirmed="yes"
    )
    assert "Nothing changed for olga: you cannot suspend yourself." in act(
        client, "suspend", olga, at=PEOPLE, confirmed="yes"
    )
    assert "Suspended alice" in act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert User.objects.filter(is_active=True).count() == 2
    client.force_login(charlie)
    assert "Suspended olga" in act(client, "suspend", olga, at=PEOPLE, confirmed="yes")
