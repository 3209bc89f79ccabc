"""The admin's list of generations and the page of one."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.library import deletion
from generation.models import Generation, State
from generation.staff import generation_filters
from generation.staff.generations import GenerationAdmin
from tests.support.admin import LIST, ROW, change_page, listed
from tests.support.generations import half_mask, make_generation
from tests.support.html import squeeze
from tests.support.pictures import scene
from tests.support.roles import REVIEWERS
from tests.support.roles import staff as create_staff


def test_it_works(staff: Client, alice: User) -> None:
    plain = make_generation(alice, num_images_per_prompt=2)
    flagged = make_generation(alice, prompt="make it snow", flagged=[0])
    unchecked = make_generation(alice, safety_check=False)
    waiting = make_generation(alice, State.QUEUED)
    page = staff.get(LIST).content.decode()
    assert listed(staff) == [waiting.pk, unchecked.pk, flagged.pk, plain.pk]
    for text in (
        "make it snow",
        "alice",
        "dreamsite/tiny-edit",
        "1207 – 1208",
        "1 flagged",
        "not checked",
        ">queued<",
    ):
        assert text in page
    assert "succeeded in 2.4 s" in page
    thumbnails = re.findall(r'<(?:span|label) class="thumbnail(?: flagged)?"', page)
    assert len(thumbnails) == 4 + 2 + 1 + 1
    assert page.count("thumbnail flagged") == 1


def test_only_staff_may_open_the_admin(client: Client, alice: User) -> None:
    generation = make_generation(alice)
    client.force_login(alice)
    for address in ("/admin/", LIST, change_page(generation), "/admin/accounts/apitoken/"):
        assert client.get(address)["Location"].startswith("/admin/login/")


def test_staff_without_the_permission_see_no_generations(client: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice)
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    client.force_login(bob)
    assert client.get(LIST).status_code == client.get(change_page(generation)).status_code == 403
    bob.user_permissions.add(Permission.objects.get(codename="view_generation"))
    assert listed(client) == [generation.pk]


def test_the_list_takes_a_constant_number_of_queries_and_no_count(staff: Client, alice: User) -> None:
    counted = []
    for count in (1, 12):
        for number in range(count):
            make_generation(alice, list(State)[number % 5], num_images_per_prompt=2)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            staff.get(LIST)
        counted.append(len(queries))
        assert not [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counted == [20, 20]


def test_pages_are_reached_by_next_and_previous(staff: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GenerationAdmin, "list_per_page", 3)
    ids = [make_generation(alice).pk for _ in range(7)]
    pages, address = [], LIST + "?q=night"
    for _ in range(3):
        page = staff.get(address).content.decode()
        pages.append([UUID(pk) for pk in ROW.findall(page)])
        older = re.search(r'<a href="(\?[^"]+)">Older ›</a>', page)
        address = LIST + older[1].replace("&amp;", "&") if older else ""
    assert pages == [ids[:3:-1], ids[3:0:-1], ids[:1]]
    assert address == ""
    assert 'href="?q=night&amp;p=2">‹ Newer</a>' in page
    assert listed(staff, p=2) == ids[3:0:-1]


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999", "9" * 40, "²"])
def test_a_404_page_leads_back(staff: Client, alice: User, number: str) -> None:
    generation = make_generation(alice)
    answer = staff.get(LIST, {"p": number}, follow=True)
    assert answer.status_code == 200
    assert str(generation.pk) in answer.content.decode()


def test_filters_by_state_model_flag_and_user(staff: Client, alice: User, bob: User) -> None:
    plain = make_generation(alice)
    flagged = make_generation(bob, num_images_per_prompt=2, flagged=[1])
    failed = make_generation(bob, State.FAILED)
    assert listed(staff, state__exact="failed") == [failed.pk]
    assert listed(staff, model__id__exact="dreamsite/tiny-edit") == [failed.pk, flagged.pk, plain.pk]
    assert listed(staff, model__id__exact="stabilityai/sd-turbo") == []
    assert listed(staff, flagged="yes") == [flagged.pk]
    assert listed(staff, flagged="no") == [failed.pk, plain.pk]
    assert listed(staff, user="alice") == [plain.pk]
    assert listed(staff, user="bob", flagged="yes") == [flagged.pk]
    assert listed(staff, user="nobody") == []
    page = staff.get(LIST).content.decode()
    assert f'href="{LIST}?user=bob"' in page
    page = staff.get(LIST, {"user": "bob", "flagged": "yes"}).content.decode()
    assert 'name="user" value="bob"' in page
    assert '<input type="hidden" name="flagged" value="yes">' in page


def chips(page: str) -> dict[str, dict[str, str]]:
    """Return the counts in the menus above the list, by the label of the chip."""
    menus = re.findall(r'<summary class="chip[^>]*>(.*?)</summary><div>(.*?)</div>', squeeze(page))
    return {label: dict(re.findall(r"<a [^>]*>([^<]*)<b>(\d+)</b>", menu)) for label, menu in menus}


def test_filters_offer_what_occurs_with_counts(staff: Client, alice: User, bob: User) -> None:
    make_generation(alice)
    make_generation(alice, flagged=[0])
    make_generation(alice, State.FAILED)
    make_generation(bob, State.QUEUED)
    found = chips(staff.get(LIST).content.decode())
    assert found["State"] == {"succeeded": "2", "failed": "1", "queued": "1"}
    assert found["Flag"] == {"not flagged": "3", "flagged": "1"}
    assert "Model" not in found, "there is one alone"
    # The counts are of what the other filters let pass; the chip of a set filter has its value.
    found = chips(staff.get(LIST, {"user": "alice", "state__exact": "failed"}).content.decode())
    assert found["failed"] == {"succeeded": "2", "failed": "1"}
    assert "Flag" not in found
    assert chips(staff.get(LIST, {"error": "internal_error"}).content.decode())["internal error"] == {
        "out of memory": "1",
        "internal error": "0",
    }


def test_a_list_without_rows_says_so_and_offers_no_actions(staff: Client, alice: User) -> None:
    make_generation(alice)
    page = staff.get(LIST, {"q": "unicorn"}).content.decode()
    assert "No generations here." in page
    assert 'name="action"' not in page


def test_counts_are_of_the_newest_rows(staff: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_filters, "NEWEST", 3)
    make_generation(alice, State.RUNNING)
    for state in (State.FAILED, State.QUEUED, State.FAILED):
        make_generation(alice, state)
    page = staff.get(LIST).content.decode()
    assert chips(page)["State"] == {"failed": "2", "queued": "1"}
    assert "Counts are of the newest 3." in page
    assert (
        "Counts are of" not in staff.get(LIST, {"date": f"{timezone.localdate():%Y}", "q": "nothing"}).content.decode()
    )


def test_presets_are_those_that_have_rows(staff: Client, alice: User) -> None:
    def presets(address: str = LIST) -> list[tuple[str, str]]:
        bar = squeeze(staff.get(address).content.decode()).partition('<nav class="presets"')[2].partition("</nav>")[0]
        return re.findall(r'<a href="\?([^"]*)"[^>]*>(.*?)</a>', bar)

    assert presets() == [("", "All")]
    make_generation(alice, State.FAILED, created=timezone.now() - timedelta(days=3))
    for _ in range(2):
        make_generation(alice, State.RUNNING)
    waiting = make_generation(alice, flagged=[0])
    shown = dict(presets())
    assert [re.sub("<b>|</b>", " ", label).strip() for label in shown.values()] == [
        "All",
        "Running 2",
        "Waiting for review 1",
        "Flagged today 1",
    ]
    for query, label in list(shown.items())[2:]:
        address = f"{LIST}?{query.replace('&amp;', '&')}"
        assert [UUID(pk) for pk in ROW.findall(staff.get(address).content.decode())] == [waiting.pk], label
    assert 'aria-current="true">All' in squeeze(staff.get(LIST).content.decode())
    assert 'aria-current="true">On legal hold<b>0</b>' in squeeze(staff.get(f"{LIST}?legal_hold=yes").content.decode())


def test_a_search_finds_by_id_words_user_seed_and_file(staff: Client, alice: User, bob: User) -> None:
    night = make_generation(alice, prompt="Make it NIGHT, please", seed=5, num_images_per_prompt=3)
    snow = make_generation(bob, prompt="snow in 1999", seed=2**63 - 1)
    assert listed(staff, q="night") == [night.pk]
    assert listed(staff, q="please make") == [night.pk]
    assert listed(staff, q="bob") == [snow.pk]
    assert listed(staff, q="BOB snow") == [snow.pk]
    assert listed(staff, q="alice snow") == []
    assert listed(staff, q=str(night.pk)) == [night.pk]
    assert listed(staff, q=night.pk.hex.upper()) == [night.pk]
    assert listed(staff, q="7") == [night.pk]
    assert listed(staff, q="8") == []
    assert listed(staff, q="1999") == [snow.pk]
    assert listed(staff, q=str(2**63 - 1)) == [snow.pk]
    assert listed(staff, q=night.input_sha256.upper()) == [night.pk]
    assert listed(staff, q=f"{night.input_sha256} bob") == []
    referencing = make_generation(alice, references=[scene(32, 32), scene(32, 48)])
    assert listed(staff, q=referencing.references.all()[1].sha256) == [referencing.pk]


def test_no_search_reads_through_the_prompts(staff: Client, alice: User) -> None:
    night = make_generation(alice, prompt="Make it NIGHT, please")
    with CaptureQueriesContext(connection) as queries:
        assert listed(staff, q="alice night 1207") == [night.pk]
    assert not [query["sql"] for query in queries if '"prompt" LIKE' in query["sql"]]
    assert listed(staff, q="night", date=f"{timezone.localdate():%Y-%m-%d}") == [night.pk]
    assert listed(staff, q="night", date="2025-03") == []


@pytest.mark.parametrize("words", ["%", "_", "'", '"', "\\", "2" * 40, "²", "\0", "😀", "0" * 64, "a " * 200])
def test_unusual_searches_cause_no_error(staff: Client, alice: User, words: str) -> None:
    make_generation(alice)
    assert staff.get(LIST, {"q": words}, follow=True).status_code == 200


@pytest.mark.parametrize("is_removed", [False, True])
def test_the_page_of_a_generation_shows_its_mask_and_further_pictures(
    staff: Client, alice: User, is_removed: bool
) -> None:
    generation = make_generation(alice, mask=half_mask(96, 64), references=[scene(32, 48)])
    reference = generation.references.get()
    addresses = [file.url.replace("&", "&amp;").partition("?")[0] for file in (generation.mask, reference.thumbnail)]
    if is_removed:
        generation.references.update(file="", thumbnail="")
        Generation.objects.filter(pk=generation.pk).update(mask="", mask_thumbnail="")
    page = squeeze(staff.get(change_page(generation)).content.decode())
    assert "50 % may change" in page
    assert generation.mask_sha256 in page
    assert "Further pictures" in page
    assert ('<span class="muted">removed</span>' in page) == is_removed
    assert [address in page for address in addresses] == [not is_removed] * 2


def test_the_page_of_a_generation_shows_its_fields(staff: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "my laptop")
    generation = make_generation(
        alice, token=token, prompt="make it <night>", num_images_per_prompt=2, flagged=[1], guidance_scale=9.5
    )
    page = squeeze(staff.get(change_page(generation)).content.decode())
    first = generation.images.all()[0]
    recipe = generation.get_recipe()
    for text in (
        "make it &lt;night&gt;",
        "my laptop",
        "denoising<b>1.9 s</b>",
        '<tr class="different"><th scope="row">Steps</th><td>20</td><td>2<span class="tag">differs</span>',
        '<th scope="row">Seed</th><td>1207</td><td>1207 – 1208</td>',
        '<tr class="unused"><th scope="row">Guidance</th><td>9.5</td><td>no effect</td>',
        '<tr class="unused"><th scope="row">Strength</th><td>0.8</td><td>no effect</td>',
        "<summary>Recipe as JSON</summary>",
        "<summary>Receipt as JSON</summary>",
        f"&quot;guidance_scale&quot;: {recipe.guidance_scale}",
        generation.input_sha256,
        "flagged, score 0.93",
        "not flagged, score 0.01",
        "opennsfw, flags from 0.8<",
        "worker here-1",
        generation.input.url.replace("&", "&amp;"),
        first.file.url.replace("&", "&amp;"),
    ):
        assert text in page, text
    assert recipe.guidance_scale != 9.5
    assert f"{generation.created:%Y-%m-%d %H:%M:%S}" in page
    # What is not there has no row.
    for label in ("Negative prompt", "LoRAs", "Deadline", "Request ID", "lost", "attempt"):
        assert f">{label}<" not in page
    assert '<div class="compare"' in page
    assert '<div class="compare flagged"' in squeeze(
        staff.get(change_page(generation), {"picture": "2"}).content.decode()
    )
    assert 'name="_save"' not in page
    assert not re.findall(r'<(?:input|textarea|select)[^>]* name="(?:prompt|state|seed|images-0-seed)"', page)


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        (State.SUCCEEDED, ["retry", "prove", "hold", "delete_permanently"]),
        (State.FAILED, ["retry", "hold", "delete_permanently"]),
        (State.RUNNING, ["cancel", "hold"]),
    ],
)
def test_buttons_are_those_that_can_be_done_now(
    staff: Client, client: Client, alice: User, state: State, actions: list[str]
) -> None:
    def buttons(generation: Generation) -> list[str]:
        page = client.get(change_page(generation)).content.decode()
        return re.findall(r'<button class="button[^"]*" name="action" value="(\w+)"', page)

    generation = make_generation(alice, state)
    assert buttons(generation) == actions
    Generation.objects.filter(pk=generation.pk).update(legal_hold=True)
    held = [{"hold": "lift_hold"}.get(action, action) for action in actions if action != "delete_permanently"]
    assert buttons(generation) == held
    Generation.objects.filter(pk=generation.pk).update(legal_hold=False)
    if deletion.delete(generation):
        assert buttons(generation) == []
    client.force_login(create_staff("dora", REVIEWERS))
    assert buttons(make_generation(alice, state)) == []


def test_an_error_is_shown_with_its_code(staff: Client, alice: User) -> None:
    page = staff.get(change_page(make_generation(alice, State.FAILED))).content.decode()
    assert "Try reducing input image resolution. <code>out_of_memory</code>" in page


def test_generations_are_read_only_in_the_admin(staff: Client, alice: User) -> None:
    generation = make_generation(alice)
    assert staff.get(LIST + "add/").status_code == 403
    assert staff.post(change_page(generation), {"prompt": "other"}).status_code == 403
    assert staff.post(reverse("admin:generation_generation_delete", args=[generation.pk])).status_code == 403
    staff.post(LIST, {"action": "delete_selected", "_selected_action": str(generation.pk), "post": "yes"})
    # Users cannot be deleted here either: their files would remain.
    staff.post(reverse("admin:accounts_user_delete", args=[alice.pk]), {"post": "yes"})
    generation.refresh_from_db()
    assert generation.prompt == "make it night"


def test_the_page_takes_a_constant_number_of_queries(staff: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    counted = []
    for count in (1, 8):
        generation = make_generation(alice, token=token, num_images_per_prompt=count)
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(change_page(generation)).status_code == 200
        counted.append(len(queries))
    assert counted[0] == counted[1] <= 19
