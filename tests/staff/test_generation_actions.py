"""Actions in the admin: retry, cancel, delete, review, export, suspend; each is confirmed first and audited."""

import csv
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from PIL import Image

from accounts.models import ApiToken, User
from generation.images import storage
from generation.jobs import queue, retry
from generation.library import albums, deletion, sharing
from generation.maintenance import retention
from generation.models import GeneratedImage, Generation, RetentionRule, ShareLink, State
from generation.models.review import ReviewDecision
from generation.staff import generation_filters
from tests.support.admin import LIST, audited_changes, change_page, listed
from tests.support.generations import half_mask, make_generation
from tests.support.html import squeeze
from tests.support.pictures import scene
from tests.support.roles import (
    OPERATORS,
    REVIEWERS,
    staff,
)

PEOPLE = "/admin/accounts/user/"
pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def desk(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def act(client: Client, action: str, *rows: Any, at: str = LIST, **fields: str) -> str:
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows], **fields}
    answer = client.post(at, form, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_actions_are_confirmed_first(desk: Client, alice: User) -> None:
    waiting = make_generation(alice, State.QUEUED, prompt="make it <night>")
    page = act(desk, "cancel", waiting)
    assert "Queued generations are canceled at once" in page
    assert "make it &lt;night&gt;" in page
    assert "Cancel: 1" in page
    waiting.refresh_from_db()
    assert waiting.state == State.QUEUED
    assert "1 canceled." in act(desk, "cancel", waiting, confirmed="yes")
    waiting.refresh_from_db()
    assert waiting.state == State.CANCELED
    assert audited_changes().get().action == "generation.cancel"


def test_a_retry_is_a_new_generation_with_the_same_recipe(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    old = make_generation(alice, State.FAILED, token=token, num_images_per_prompt=2, guidance_scale=3)
    running = make_generation(alice, State.RUNNING)
    page = act(desk, "retry", old, running, confirmed="yes")
    assert "1 queued again." in page
    assert "1 not queued again: it has not ended yet." in page
    new = Generation.objects.latest("pk")
    assert (new.state, new.user, new.token, new.prompt) == (State.QUEUED, alice, token, old.prompt)
    assert new.recipe == old.recipe
    assert (new.input_sha256, new.input_width) == (old.input_sha256, old.input_width)
    assert new.input.name != old.input.name
    assert storage.read(str(new.input.name)) == storage.read(str(old.input.name))
    assert audited_changes().get().after == {"made": str(new.pk)}
    assert queue.claim("default", "here-1") == [new]


def test_a_retry_keeps_random_seeds_and_needs_no_token(alice: User) -> None:
    old = make_generation(alice, State.FAILED)
    old.parameters["seed"] = None
    new = retry.retry(old, old.token)
    assert new.token is None
    assert new.recipe["seeds"] == old.recipe["seeds"]


def test_a_retry_has_the_mask(alice: User) -> None:
    old = make_generation(alice, State.FAILED, mask=half_mask(96, 64), image_url="https://pictures.example/cat.png")
    new = retry.retry(old, old.token)
    assert new.recipe == old.recipe
    assert new.open_share == 0.5
    assert new.mask.name != old.mask.name
    kept, copied = (Image.open(BytesIO(storage.read(str(row.mask.name)))).convert("L") for row in (old, new))
    assert kept.tobytes() == copied.tobytes()
    assert new.input_bytes == sum(len(storage.read(name)) for name in new.input_file_names)


@pytest.mark.parametrize("inputs", [{"mask": half_mask(96, 64)}, {"references": [scene(32, 32)]}])
def test_a_retry_without_the_mask_or_further_pictures_is_refused(alice: User, inputs: dict[str, Any]) -> None:
    ten_days_ago = timezone.now() - timedelta(days=10)
    url = "https://pictures.example/cat.png"
    old = make_generation(alice, State.FAILED, image_url=url, created=ten_days_ago, **inputs)
    assert retention.step(RetentionRule(what=RetentionRule.What.UPLOADS, days=9), 1)
    old.refresh_from_db()
    with pytest.raises(retry.RetryRefused, match="its mask or further pictures were removed"):
        retry.retry(old, old.token)


def test_impossible_retries_are_explained(desk: Client, alice: User) -> None:
    deleted = make_generation(alice)
    act(desk, "delete_permanently", deleted, confirmed="yes")
    assert "its picture was deleted" in act(desk, "retry", deleted, confirmed="yes")
    User.objects.filter(pk=alice.pk).update(max_queued=0)
    assert "queued request" in act(desk, "retry", make_generation(alice), confirmed="yes")
    assert Generation.objects.count() == 2


def test_operators_delete_permanently_except_on_hold(client: Client, alice: User) -> None:
    client.force_login(staff("olga", OPERATORS))
    deleted, on_hold, waiting = make_generation(alice), make_generation(alice), make_generation(alice, State.QUEUED)
    file = deleted.images.get().file
    act(client, "hold", on_hold, confirmed="yes", note="a claim")
    page = act(client, "delete_permanently", deleted, on_hold, waiting, confirmed="yes")
    assert "1 deleted." in page
    assert "1 not deleted: it is on legal hold." in page
    assert "1 not deleted: it has not ended, or was deleted before." in page
    assert not file.storage.exists(str(file.name))
    assert [row.pk for row in Generation.objects.exclude(deleted=None)] == [deleted.pk]
    entry = audited_changes().latest("pk")
    assert (entry.action, entry.actor_name, entry.target) == ("generation.delete", "olga", str(deleted.pk))


def test_delete_removes_the_files(desk: Client, alice: User) -> None:
    generation = make_generation(alice)
    file = generation.images.get().file
    assert "cannot be restored" in act(desk, "delete_permanently", generation)
    assert "1 deleted." in act(desk, "delete_permanently", generation, confirmed="yes")
    assert not file.storage.exists(str(file.name))
    assert "Its pictures were deleted." in desk.get(change_page(generation)).content.decode()


def test_a_legal_hold_needs_a_reason(client: Client, alice: User) -> None:
    client.force_login(staff("olga", OPERATORS))
    one, two = make_generation(alice), make_generation(alice)
    assert 'name="note"' in act(client, "hold", one, two)
    assert "2 not put on legal hold: say why." in act(client, "hold", one, two, confirmed="yes", note=" ")
    assert "2 put on legal hold." in act(client, "hold", one, two, confirmed="yes", note="a claim")
    assert listed(client, legal_hold="yes") == [two.pk, one.pk]
    assert not deletion.delete(one)
    assert "1 not put on legal hold: it is on hold already" in act(client, "hold", one, confirmed="yes", note="again")
    page = client.get(change_page(one)).content.decode()
    assert "on legal hold" in page
    assert "hold “a claim” <em>by olga" in page
    assert re.search(r'<button class="button plain" name="action" value="lift_hold">Lift the hold</button>', page)
    page = act(client, "lift_hold", one, from_page="yes")
    assert f'href="{change_page(one)}">No, take me back' in page
    assert 'name="from_page"' in page
    back = act(client, "lift_hold", one, confirmed="yes", note="settled", from_page="yes")
    assert "1 lifted." in back
    assert "lift hold “settled”" in back
    assert 'value="hold">Hold</button>' in back
    assert deletion.delete(one)
    entries = audited_changes().filter(target=str(one.pk)).order_by("pk")
    assert [(entry.action, entry.after) for entry in entries] == [
        ("generation.hold", {"legal_hold": True, "reason": "a claim"}),
        ("generation.lift_hold", {"legal_hold": False, "reason": "settled"}),
    ]
    assert "Hold</button>" not in client.get(change_page(one)).content.decode()


def test_only_operators_put_legal_holds(client: Client, alice: User) -> None:
    generation = make_generation(alice)
    client.force_login(staff("rita", REVIEWERS))
    assert "Hold</button>" not in client.get(change_page(generation)).content.decode()
    act(client, "hold", generation, confirmed="yes", note="a claim")
    generation.refresh_from_db()
    assert not generation.legal_hold


def test_pictures_are_decided_from_the_list(desk: Client, alice: User) -> None:
    one = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    plain = make_generation(alice)
    assert 'name="reason"' in act(desk, "confirm_flag", one)
    assert "Choose a reason" in act(desk, "confirm_flag", one, confirmed="yes")
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
    assert "it would change no picture" in act(desk, "mark_safe", one, confirmed="yes")


def test_each_action_needs_its_own_permission(client: Client, alice: User) -> None:
    generation = make_generation(alice, flagged=[0])
    offered = {}
    for role in (REVIEWERS, OPERATORS):
        client.force_login(staff(role, role))
        page = client.get(LIST).content.decode()
        every = (
            "retry",
            "cancel",
            "hold",
            "lift_hold",
            "delete_permanently",
            "mark_safe",
            "confirm_flag",
            "export",
            "delete_selected",
        )
        offered[role] = {action for action in every if f'<option value="{action}">' in page}
    assert offered == {
        REVIEWERS: {"mark_safe", "confirm_flag"},
        OPERATORS: {"retry", "cancel", "hold", "lift_hold", "delete_permanently", "export"},
    }
    act(client, "mark_safe", generation, confirmed="yes")
    client.force_login(User.objects.get(username=REVIEWERS))
    act(client, "delete_permanently", generation, confirmed="yes")
    assert not ReviewDecision.objects.exists()
    assert Generation.objects.get().deleted is None


def test_an_export_is_safe_to_open(desk: Client, alice: User) -> None:
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32), scene(32, 48)]}
    first = make_generation(alice, prompt='=HYPERLINK("http://x")', num_images_per_prompt=2, flagged=[0], **inputs)
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
    assert (rows[1]["mask_sha256"], rows[1]["reference_sha256"]) == (first.mask_sha256, f"{0:064x} {1:064x}")
    assert (rows[0]["mask_sha256"], rows[0]["reference_sha256"]) == ("", "")
    entry = audited_changes().get()
    assert (entry.action, entry.after) == (
        "generation.export",
        {"query": "", "chosen": [str(first.pk), str(second.pk)]},
    )
    desk.post(f"{LIST}?state__exact=failed", {**form, "select_across": "1"})
    assert audited_changes()[0].after == {"query": "state__exact=failed", "chosen": "all"}


def test_filters_by_date_token_error_and_file(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    old = make_generation(alice, created=datetime(2025, 3, 31, 23, 59, 59, tzinfo=UTC), token=token)
    april = make_generation(alice, created=datetime(2025, 4, 1, tzinfo=UTC))
    failed = make_generation(alice, State.FAILED, seed=99)
    for date, matches in (
        ("2025", [april, old]),
        ("2025-03", [old]),
        ("2025-03-31", [old]),
        ("2025-04-01", [april]),
        (f"{timezone.localdate():%Y-%m-%d}", [failed]),
        ("1969", [failed, april, old]),
        (generation_filters.LAST_DAY, [failed]),
        ("2025-13", [failed, april, old]),
        ("9999-12-31", [failed, april, old]),
    ):
        assert listed(desk, date=date) == [row.pk for row in matches]
    page = desk.get(LIST, {"date": "2025"}).content.decode()
    assert re_dates(page) == ["2025", "2025-12", *(f"2025-{month:02d}" for month in range(11, 2, -1))]
    assert "Monday, 31 March 2025" in desk.get(LIST, {"date": "2025-03"}).content.decode()
    assert listed(desk, token=token.prefix) == listed(desk, token=token.prefix[:9] + "…") == [old.pk]
    assert listed(desk, token="nothing") == []
    assert listed(desk, error="out_of_memory") == [failed.pk]
    assert listed(desk, q=f"{99:064x}") == [failed.pk]


def re_dates(page: str) -> list[str]:
    # Other chips link to the chosen period, too.
    return list(dict.fromkeys(re.findall(r'<a href="\?date=([0-9-]+)"', page)))


@pytest.mark.parametrize("text", ["", "2025-02-29", "20255", "2025-1", "0000", "٢٠٢٥", "9999"])
def test_invalid_periods_are_none(text: str) -> None:
    assert generation_filters.period(text) is None


def test_the_page_of_a_generation_has_a_timeline(desk: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    act(desk, "confirm_flag", generation, confirmed="yes", reason="other", note="a note")
    page = desk.get(change_page(generation), {"picture": "2"}).content.decode()
    story = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
    for words in ("requested <em>by alice", "started <em>by here-1", "succeeded in 2.4 s"):
        assert words in story
    assert "picture 2 reviewed: confirmed, other “a note” <em>by charlie" in story
    assert 'class="compare flagged"' in page


def test_the_page_of_a_generation_tells_its_links_and_those_of_its_albums(desk: Client, alice: User) -> None:
    generation, other = make_generation(alice), make_generation(alice)
    for row, name in ((generation, "Winter"), (other, "Summer")):
        album = albums.create(alice, name)
        albums.add(album, [row.pk])
        sharing.share_album(album, None, with_recipe=False)
    sharing.share(generation, 0, timedelta(days=7))
    page = squeeze(desk.get(change_page(generation)).content.decode())
    story = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
    assert story.count("shared in an album<em>by alice") == 1
    assert "picture 1 shared<em>by alice" in story
    facts = page.partition("<dt>Shared</dt>")[2].partition("<dt>")[0]
    assert [facts.count(words) for words in ("in an album", "picture 1, until", "until revoked")] == [1, 1, 1]
    assert "Winter" not in page
    sharing.revoke(ShareLink.objects.all())
    page = squeeze(desk.get(change_page(generation)).content.decode())
    assert "link to an album with it revoked" in page
    assert "<dt>Shared</dt>" not in page


def test_the_lists_of_users_and_tokens_say_states_in_words(desk: Client, alice: User, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    ApiToken.objects.issue(alice, "laptop")
    page = squeeze(desk.get(PEOPLE).content.decode())
    assert page.count('<span class="tag">suspended</span>') == 1
    assert '<td class="field-role">superuser</td>' in page
    assert "icon-yes" not in page
    tokens = squeeze(desk.get("/admin/accounts/apitoken/").content.decode())
    assert '<td class="field-state">usable</td>' in tokens
    assert "icon-yes" not in tokens


def test_a_users_page_shows_usage_limits_flags_and_tokens(desk: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "my laptop")
    make_generation(alice, flagged=[0])
    make_generation(alice, State.QUEUED)
    page = desk.get(f"{PEOPLE}{alice.pk}/change/").content.decode()
    for words in (
        "2 in all",
        "1 queued, 0 running",
        "4 running at once, 100 queued at once",
        "1 waiting for review",
    ):
        assert words in page
    assert f"{token.prefix}…</a> my laptop, usable" in page


def test_a_suspension_takes_effect_at_once_and_can_be_lifted(client: Client, alice: User, bob: User) -> None:
    _, raw = ApiToken.objects.issue(alice, "laptop")
    waiting, running = make_generation(alice, State.QUEUED), make_generation(alice, State.RUNNING)
    other = make_generation(bob, State.QUEUED)
    users_client = Client()
    users_client.force_login(alice)
    client.force_login(staff("olga", OPERATORS))
    assert "Their tokens and sessions are refused from now on" in act(client, "suspend", alice, at=PEOPLE)
    assert ApiToken.objects.authenticate(raw) is not None
    page = act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert "Suspended alice; 2 generations canceled." in page
    assert ApiToken.objects.authenticate(raw) is None
    assert users_client.get("/history/")["Location"].startswith("/accounts/sign-in")
    for row in (waiting, running, other):
        row.refresh_from_db()
    assert (waiting.state, running.cancel_requested is not None, other.state) == ("canceled", True, "queued")
    assert "Lifted the suspension of alice." in act(client, "lift", alice, at=PEOPLE, confirmed="yes")
    assert ApiToken.objects.authenticate(raw) is not None
    assert "Alice was not suspended." in act(client, "lift", alice, at=PEOPLE, confirmed="yes")
    assert list(audited_changes().values_list("action", flat=True)) == ["user.lift", "user.suspend"]


@pytest.mark.django_db
def test_too_many_users_at_once_are_refused(client: Client) -> None:
    many = User.objects.bulk_create(User(username=f"user{number}") for number in range(201))
    client.force_login(staff("olga", OPERATORS))
    assert "at most 200 rows" in act(client, "suspend", *many, at=PEOPLE, confirmed="yes")
    assert not User.objects.filter(is_active=False).exists()


def test_a_user_is_suspended_by_the_button_only(client: Client, alice: User, charlie: User) -> None:
    waiting, address = make_generation(alice, State.QUEUED), f"{PEOPLE}{alice.pk}/change/"
    client.force_login(staff("olga", OPERATORS))
    page = client.get(address).content.decode()
    assert '<button name="action" value="suspend">Suspend</button>' in page
    assert "may sign in and use their tokens" in page
    for secret in ("pbkdf2", "algorithm", "Reset password", "field-password"):
        assert secret not in page
    assert 'name="from_page" value="yes"' in act(client, "suspend", alice, at=PEOPLE, from_page="yes")
    form = {"action": "suspend", "_selected_action": str(alice.pk), "confirmed": "yes", "from_page": "yes"}
    answer = client.post(PEOPLE, form, follow=True)
    assert answer.redirect_chain[-1][0] == address
    assert '<button name="action" value="lift">' in answer.content.decode()
    waiting.refresh_from_db()
    assert waiting.state == State.CANCELED
    # A superuser cannot suspend or readmit with the form: that would leave work queued.
    client.force_login(charlie)
    page = client.get(address).content.decode()
    assert "Reset password" in page
    assert 'name="is_active"' not in page
    joined = {"date_joined_0": "2026-01-02", "date_joined_1": "03:04:05"}
    client.post(address, {"username": "alice", "max_queued": "3", "is_active": "on", **joined})
    assert User.objects.values_list("max_queued", "is_active").get(pk=alice.pk) == (3, False)


def test_suspending_again_cancels_remaining_work(client: Client, alice: User, charlie: User) -> None:
    waiting = make_generation(alice, State.QUEUED)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    client.force_login(charlie)
    page = act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert "Alice was suspended already; 1 generation canceled." in page
    waiting.refresh_from_db()
    assert waiting.state == State.CANCELED
    assert audited_changes().get().after == {"is_active": False, "canceled": 1}
    act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert audited_changes().count() == 1


def test_operators_suspend_no_staff_and_nobody_suspends_themselves(client: Client, alice: User, charlie: User) -> None:
    olga = staff("olga", OPERATORS)
    client.force_login(olga)
    assert "Charlie was not suspended: only superusers suspend staff." in act(
        client, "suspend", charlie, at=PEOPLE, confirmed="yes"
    )
    assert "Olga was not suspended: you cannot suspend yourself." in act(
        client, "suspend", olga, at=PEOPLE, confirmed="yes"
    )
    assert "Suspended alice" in act(client, "suspend", alice, at=PEOPLE, confirmed="yes")
    assert User.objects.filter(is_active=True).count() == 2
    client.force_login(charlie)
    assert "Suspended olga" in act(client, "suspend", olga, at=PEOPLE, confirmed="yes")
