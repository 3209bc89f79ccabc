"""Contact sheets: their cells, submission of all or none, display, cancellation and privacy."""

import re
from io import BytesIO
from operator import attrgetter
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image, features
from playwright.sync_api import expect
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import User
from generation.images import encoding, labelled_grid, storage
from generation.images.blur import blurred
from generation.jobs import queue
from generation.jobs.contact_sheets import more_values, read_axis
from generation.models import (
    ContactSheet,
    DiffusionModel,
    GeneratedImage,
    Generation,
    PriorityLevel,
    State,
)
from generation.parameters import InvalidField
from generation.recipes import RANDOM_SEED_WARNING
from tests.support.browser import (
    check_everywhere,
    chromium,
    needs_chromium,
)
from tests.support.generations import half_mask, make_generation, unnamed_files
from tests.support.pictures import encoded, photo
from tests.support.service import Service
from tests.support.workers import register_worker

REDRAW = "dreamsite/tiny-redraw"
FIELDS = {"prompt": "make it night", "model_id": REDRAW, "num_inference_steps": "20", "contact_sheet": "1"}
GRID = {"columns_field": "guidance_scale", "columns": "2, 4 7.5", "rows_field": "num_inference_steps", "rows": "5;10"}


@pytest.fixture
def signed_in(client: Client, alice: User, redis: None, tiny_edit: DiffusionModel) -> Client:
    client.force_login(alice)
    return client


def explore(client: Client, **fields: Any) -> Any:
    image = SimpleUploadedFile("cat.png", photo(96, 64), "image/png")
    return client.post("/", {**FIELDS, **GRID, "image": image, **fields})


def test_it_works(signed_in: Client, alice: User) -> None:
    answer = explore(signed_in, num_images_per_prompt="4")
    sheet = ContactSheet.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/sheets/{sheet.pk}/")
    cells = list(sheet.generations.order_by("cell"))
    values = [(cell.get_parameters().guidance_scale, cell.get_parameters().num_inference_steps) for cell in cells]
    assert values == [(2, 5), (4, 5), (7.5, 5), (2, 10), (4, 10), (7.5, 10)]
    assert {len(cell.get_recipe().seeds) for cell in cells} == {1}
    assert len({cell.get_recipe().seeds for cell in cells}) == 1, "one seed, or they could not be compared"
    assert {(cell.user, cell.priority, cell.in_studio) for cell in cells} == {(alice, PriorityLevel.LOW, True)}
    assert len({cell.input.name for cell in cells}) == 6, "each may be deleted on its own"
    assert unnamed_files() == []
    page = signed_in.get(answer["Location"]).content.decode()
    assert "<h1>Guidance × steps</h1>" in page
    assert [cell.strip() for cell in re.findall(r'scope="col"><small>Guidance</small>(.*?)</th>', page)] == [
        "2",
        "4",
        "7.5",
    ]
    assert re.findall(r'scope="row">\s*<small>Steps</small>(\S+)', page) == ["5", "10"]
    assert 'aria-label="Steps 10, Guidance 7.5: queued"' in page
    assert "0 of 6 done" in page
    page = signed_in.get(f"/history/{cells[0].pk}/").content.decode()
    assert f'<a href="/sheets/{sheet.pk}/">part of a contact sheet</a>' in page
    studio = signed_in.get("/").content.decode()
    assert "6, 6 remaining" in studio
    assert "data-events" not in studio, "the studio does not show single cells"


def test_each_cell_has_the_mask(signed_in: Client) -> None:
    mask = SimpleUploadedFile("mask.png", encoded(half_mask(96, 64)), "image/png")
    answer = explore(signed_in, mask=mask, mask_invert="true", mask_padding="0", columns="2, 4", rows="5")
    assert "<small>Mask</small> 50 % may change" in signed_in.get(answer["Location"]).content.decode()
    cells = list(Generation.objects.all())
    assert len({cell.mask.name for cell in cells}) == 2, "each may be deleted on its own"
    for cell in cells:
        stored = Image.open(BytesIO(storage.read(str(cell.mask.name))))
        assert (stored.size, stored.getbbox()) == ((96, 64), (0, 32, 96, 64))
        assert cell.parameters["mask_invert"] is False
        inpainting = cell.get_recipe().inpainting
        assert inpainting
        assert inpainting.box == (0, 32, 96, 64)
    assert unnamed_files() == []


def test_prompts_and_seeds_vary_too(signed_in: Client) -> None:
    explore(
        signed_in,
        columns_field="prompt",
        columns="make it night\n\nmake it, gently, snow\n",
        rows_field="seed",
        rows="1 2",
    )
    cells = Generation.objects.order_by("cell")
    assert [(cell.prompt, cell.get_recipe().seeds[0]) for cell in cells] == [
        ("make it night", 1),
        ("make it, gently, snow", 1),
        ("make it night", 2),
        ("make it, gently, snow", 2),
    ]


def test_seed_minus_one_is_one_random_seed(signed_in: Client) -> None:
    explore(signed_in, seed="-1", columns="2, 4", rows="20")
    explore(signed_in, columns_field="seed", columns="-1, 5", rows="20")
    one, two, random, five = Generation.objects.order_by("created")
    assert one.get_recipe().seeds == two.get_recipe().seeds
    assert one.get_recipe().seeds == (one.get_parameters().seed,)
    assert [cell.warnings[0] for cell in (one, two, random)] == [RANDOM_SEED_WARNING] * 3
    assert five.get_recipe().seeds == (5,)
    assert RANDOM_SEED_WARNING not in five.warnings


def test_a_double_click_is_one_sheet(signed_in: Client) -> None:
    first, second = explore(signed_in, key="nonce"), explore(signed_in, key="nonce")
    assert first["Location"] == second["Location"]
    assert Generation.objects.count() == 6
    assert explore(signed_in, key="nonce", rows="5;11")["Location"] != first["Location"]


def test_scripts_get_the_address_of_the_sheet(signed_in: Client) -> None:
    image = SimpleUploadedFile("cat.png", photo(96, 64), "image/png")
    fields = {**FIELDS, **GRID, "rows_field": "", "image": image}
    answer = signed_in.post("/", fields, headers={"X-Requested-With": "fetch"})
    assert (answer.status_code, answer.json()) == (201, {"location": f"/sheets/{ContactSheet.objects.get().pk}/"})
    assert Generation.objects.count() == 3


@pytest.mark.parametrize(
    ("fields", "place", "words", "status"),
    [
        ({"columns_field": ""}, "columns", "Choose what varies along the columns", 422),
        ({"columns_field": "image_url"}, "columns", "Choose one of strength", 422),
        ({"columns": " , "}, "columns", "Write values with commas between", 422),
        ({"rows_field": "prompt", "rows": ""}, "rows", "Write one value on each line", 422),
        ({"rows_field": "guidance_scale"}, "rows", "This varies along the columns already", 422),
        ({"columns": "1,51"}, "columns", "Input should be a number from 0 to 50", 422),
        ({"rows": "five"}, "rows", "Input should be a whole number.", 422),
        ({"rows_field": "image_guidance_scale", "rows": "2"}, "rows", "image_guidance_scale has no effect on", 422),
        ({"columns_field": "seed", "columns": " ".join(map(str, range(37)))}, "columns", "at most 36 pictures", 422),
        (
            {"columns_field": "seed", "columns": " ".join(map(str, range(19)))},
            "rows",
            "These would be 38 pictures",
            422,
        ),
        ({"rows_field": "model_id", "rows": "no/such"}, "rows", "There is no such model here", 422),
        ({"lora:no/such": "1"}, "loras", "not found among those", 400),
    ],
)
def test_invalid_axes_are_explained_beside_them(
    signed_in: Client, fields: dict[str, str], place: str, words: str, status: int
) -> None:
    answer = explore(signed_in, **fields)
    beside = re.search(rf'data-errors="{place}">(.*?)</ul>', answer.content.decode())
    assert beside is not None
    assert words in beside[1]
    assert answer.status_code == status
    assert not Generation.objects.exists()
    assert not ContactSheet.objects.exists()


def test_cost_and_duration_are_estimated(
    signed_in: Client,
    settings: Settings,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    redraw = DiffusionModel.objects.get(pk=REDRAW)
    redraw.run_timings.create(pixels=27_648, images=1, step_seconds=0.1, other_seconds=1)
    form = {**FIELDS, **GRID, "width": "192", "height": "144"}
    register_worker("here-1", models=[REDRAW])
    estimate = signed_in.post("/studio/estimate", form).json()
    # Three of 5 steps and three of 10, one after the other.
    assert estimate["sheet"] == "about 10 s · starts at once · costs 0.995 of the 5000 left today"
    assert "costs 0.442" in estimate["words"], "of the single request, as ever"
    assert signed_in.post("/studio/estimate", FIELDS).json()["sheet"] == ""
    many = {**form, "columns_field": "seed", "columns": " ".join(map(str, range(18)))}
    for fields in (form, many):
        # SQLite takes the rows of many cells in two parts.
        with django_assert_max_num_queries(52):
            signed_in.post("/studio/estimate", fields)
    for fields, words in [
        ({"columns": ""}, "Write values with commas between, such as 2, 4, 7.5."),
        ({"columns": "1,51"}, "Input should be a number from 0 to 50."),
        (
            {"rows_field": "image_guidance_scale", "rows": "1"},
            "image_guidance_scale has no effect on dreamsite/tiny-redraw; choose another parameter.",
        ),
    ]:
        assert signed_in.post("/studio/estimate", {**form, **fields}).json()["sheet"] == words
    settings.USER_MAX_QUEUED = 5
    estimate = signed_in.post("/studio/estimate", form).json()
    assert "These are 6 requests, and 5 more of at most 5 can be queued" in estimate["sheet"]
    assert "costs 0.442" in estimate["words"]
    assert not Generation.objects.exists()
    assert not ContactSheet.objects.exists()


def test_values_are_read_as_people_write_them() -> None:
    axis = read_axis("columns", "strength", " 0.2,0.4;0.6\n0.8 0.2 ")
    assert axis is not None
    assert axis.values == ("0.2", "0.4", "0.6", "0.8")
    assert read_axis("rows", "", "1, 2") is None
    with pytest.raises(InvalidField, match="at most 36"):
        read_axis("rows", "seed", " ".join(map(str, range(40))))


def test_limits_apply_to_the_whole_sheet(signed_in: Client, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 5
    answer = explore(signed_in)
    assert answer.status_code == 429
    assert "These are 6 requests, and 5 more of at most 5 can be queued" in answer.content.decode()
    settings.USER_MAX_QUEUED, settings.USER_MAX_PER_MINUTE = 100, 4
    assert "These are 6 requests, and 4 of 4 a minute remain" in explore(signed_in).content.decode()
    settings.USER_MAX_PER_MINUTE, settings.USER_MAX_DAILY_COST = 100, 0.5
    assert "These requests cost" in explore(signed_in).content.decode()
    settings.USER_MAX_DAILY_COST, settings.MAX_QUEUE = 1000, 5
    assert explore(signed_in).status_code == 503
    assert not Generation.objects.exists()
    assert not ContactSheet.objects.exists()
    assert unnamed_files() == []
    settings.MAX_QUEUE = 6
    assert explore(signed_in).status_code == 302


def test_a_sheet_is_its_owners_alone(signed_in: Client, client: Client, bob: User) -> None:
    explore(signed_in)
    sheet = ContactSheet.objects.get()
    client.force_login(bob)
    for address in (f"/sheets/{sheet.pk}/", f"/sheets/{sheet.pk}/cells"):
        assert client.get(address).status_code == 404
    assert client.post(f"/sheets/{sheet.pk}/cancel").status_code == 404
    assert Generation.objects.filter(state=State.QUEUED).count() == 6
    client.logout()
    assert client.get(f"/sheets/{sheet.pk}/")["Location"].startswith("/accounts/sign-in")


def test_a_poll_returns_only_changed_cells(
    signed_in: Client, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    explore(signed_in)
    sheet = ContactSheet.objects.get()
    page = signed_in.get(f"/sheets/{sheet.pk}/").content.decode()
    address = re.search(r'hx-get="([^"]+)"', page)[1]  # type: ignore[index]
    with django_assert_num_queries(6):
        answer = signed_in.get(address)
    assert b"cell-" not in answer.content
    image = make_generation(alice).images.get()
    first, second = sheet.generations.order_by("cell")[:2]
    GeneratedImage.objects.filter(pk=image.pk).update(generation=first, nsfw=True)
    Generation.objects.filter(pk=first.pk).update(state=State.SUCCEEDED)
    Generation.objects.filter(pk=second.pk).update(trashed=second.created)
    changed = signed_in.get(address).content.decode()
    assert re.findall(r'id="(cell-\d+)" hx-swap-oob', changed) == ["cell-0", "cell-1"]
    assert "1 of 6 done" in changed
    assert 'class="cell flagged succeeded"' in changed
    assert "in the trash</span>" in changed
    Generation.objects.filter(pk=second.pk).update(deleted=second.created)
    assert "deleted</span>" in signed_in.get(address).content.decode()


def test_a_trashed_sheet_is_not_listed(signed_in: Client) -> None:
    explore(signed_in)
    sheet = ContactSheet.objects.get()
    sheet.generations.update(state=State.SUCCEEDED)
    sheet.generations.filter(cell__lt=4).update(trashed=sheet.created)
    assert list(map(attrgetter("visible_count"), ContactSheet.objects.recent(6))) == [2]
    sheet.generations.update(trashed=sheet.created)
    assert ContactSheet.objects.recent(6) == []
    assert f"/sheets/{sheet.pk}/" not in signed_in.get("/").content.decode()


def test_the_remaining_cells_are_canceled_together(signed_in: Client) -> None:
    explore(signed_in)
    sheet = ContactSheet.objects.get()
    queue.claim("default", "here-1", {REDRAW: ""})
    answer = signed_in.post(f"/sheets/{sheet.pk}/cancel", follow=True)
    states = list(sheet.generations.order_by("cell").values_list("state", "cancel_requested"))
    assert [state for state, _ in states] == ["running"] + ["canceled"] * 5
    assert states[0][1] is not None, "what runs stops at its next step"
    assert "Cancel remaining 1" in answer.content.decode()
    sheet.generations.update(state=State.CANCELED)
    assert b"All of it had ended already" in signed_in.post(f"/sheets/{sheet.pk}/cancel", follow=True).content


@needs_chromium
def test_a_sheet_fills_while_one_looks(service: Service) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(service.url)
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(service.password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{service.url}/")  # until its scripts run
        page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
        page.get_by_label("What should happen to it?").fill("make it night")
        # Long enough to be canceled.
        page.locator("#model_id").select_option(REDRAW)
        page.locator("#num_inference_steps").fill("150")
        page.get_by_text("Contact sheet", exact=True).click()
        page.locator("#columns_field").select_option("Seed")
        page.locator("#columns").fill("1, 2")
        page.locator("#rows_field").select_option("Prompt")
        page.locator("#rows").fill("make it night\nmake it snow")
        expect(page.locator("#cells")).to_have_text("4 pictures")
        expect(page.locator("#sheet-estimate")).to_contain_text("costs 8.8")
        page.get_by_role("button", name="Create contact sheet").click()
        page.wait_for_url("**/sheets/**")
        expect(page.get_by_role("heading", level=1)).to_have_text("Seed × prompt")
        expect(page.locator(".cell img").first).to_be_visible()
        # The worker waits meanwhile, or it might have made the others, too.
        with service.paused_worker():
            page.get_by_role("button", name="Cancel remaining").click()
        expect(page.get_by_role("button", name="Cancel remaining")).to_have_count(0)
        check_everywhere(page)
        page.get_by_role("link", name="Prompt make it night, Seed 1").click()
        page.get_by_role("dialog").get_by_role("link", name="Open").click()
        page.get_by_role("link", name="part of a contact sheet").click()
        page.wait_for_url("**/sheets/**")


def test_the_history_leads_to_the_sheet_and_back(signed_in: Client, alice: User, bob: User) -> None:
    explore(signed_in)
    sheet = ContactSheet.objects.get()
    alone = make_generation(alice)
    cells = list(sheet.generations.order_by("cell"))
    whole = signed_in.get("/history/").content.decode()
    tiles = dict(re.findall(r'id="tile-([0-9a-f-]{36})"(.*?)</article>', whole, re.DOTALL))
    assert [f'href="/sheets/{sheet.pk}/"' in tiles[str(cell.pk)] for cell in cells] == [True] * 6
    assert "/sheets/" not in tiles[str(alone.pk)]
    page = signed_in.get(f"/sheets/{sheet.pk}/").content.decode()
    assert f'href="/history/?sheet={sheet.pk}"' in page
    assert f'href="/history/{cells[2].pk}/?sheet={sheet.pk}"' in page
    history = signed_in.get(f"/history/?sheet={sheet.pk}").content.decode()
    assert re.findall(r'id="tile-([0-9a-f-]{36})"', history) == [str(cell.pk) for cell in reversed(cells)]
    assert '<a class="chip" href="?" aria-current="true">One contact sheet</a>' in history
    second = signed_in.get(f"/history/{cells[0].pk}/?sheet={sheet.pk}").content.decode()
    assert f'rel="prev" href="/history/{cells[1].pk}/?sheet={sheet.pk}"' in second
    assert signed_in.get("/history/?sheet=none").status_code == 400
    signed_in.force_login(bob)
    assert "tile-" not in signed_in.get(f"/history/?sheet={sheet.pk}").content.decode()


def made_sheet(user: User) -> ContactSheet:
    """Return a sheet of 2 x 2 cells whose third was deleted; the last picture is flagged."""
    columns, rows = {"field": "seed", "values": ["1", "3"]}, {"field": "prompt", "values": ["make it night", "hats"]}
    sheet = ContactSheet.objects.create(user=user, columns=columns, rows=rows)
    for cell, (prompt, seed) in enumerate([("make it night", 1), ("make it night", 3), ("hats", 1), ("hats", 3)]):
        if cell != 2:
            row = make_generation(user, prompt=prompt, seed=seed, flagged=[0] if cell == 3 else [])
            Generation.objects.filter(pk=row.pk).update(contact_sheet=sheet, cell=cell)
    return sheet


def test_a_sheet_says_what_its_cells_share_and_how_to_go_on(signed_in: Client, alice: User) -> None:
    page = signed_in.get(f"/sheets/{made_sheet(alice).pk}/").content.decode()
    shared = re.sub(r"<.*?>|\s+", " ", page.partition('"fixed-values">')[2].partition("</p>")[0]).split()
    assert " ".join(shared) == "Model dreamsite/tiny-edit Steps 20"
    first = Generation.objects.get(cell=0)
    assert f'data-studio="/?from={first.pk}&amp;mode=exact"' in page
    extend = f"/?from={first.pk}&amp;mode=exact&amp;columns_field=seed&amp;columns=5%2C+7%2C+9%2C+11"
    assert f'href="{extend}#contact-sheet"' in page
    form = signed_in.get(extend.replace("&amp;", "&")).content.decode()
    assert re.search(r'<textarea id="columns"[^>]*>5, 7, 9, 11</textarea>', form)
    assert re.search(r'<option value="seed"\s+selected', form)
    assert re.search(r'id="adjust"[^>]* aria-expanded="true"', form), "phones fold the sheet away otherwise"
    assert re.search(r'id="contact-sheet"[^>]* open', form)
    assert (
        'aria-expanded="false"'
        in signed_in.get(extend.partition("&amp;columns")[0].replace("&amp;", "&")).content.decode()
    )


@pytest.mark.parametrize(
    ("field", "values", "more"),
    [
        ("strength", ["0.2", "0.5"], ["0.8"]),
        ("guidance_scale", ["7.5"], ["8.5", "9.5", "10.5", "11.5"]),
        ("num_inference_steps", ["10", "5"], []),
        ("prompt", ["make it night"], []),
    ],
)
def test_a_row_is_continued_by_its_last_step(field: str, values: list[str], more: list[str]) -> None:
    assert more_values(field, values) == more


def test_a_sheet_is_one_labelled_picture(signed_in: Client, alice: User) -> None:
    sheet = made_sheet(alice)
    answer = signed_in.get(f"/sheets/{sheet.pk}/sheet.png")
    assert answer["Content-Type"] == "image/png"
    assert re.fullmatch(r'attachment; filename="contact-sheet-[\d-]+\.png"', answer["Content-Disposition"])
    with Image.open(BytesIO(answer.content)) as picture:
        width, height = picture.size
        right, bottom = width - 24, height - 24
        cells = [
            picture.crop((right - 96 - left, bottom - 64 - up, right - left, bottom - up))
            for up in (72, 0)
            for left in (104, 0)
        ]
        labels = picture.crop((0, 0, width, bottom - 136))
    made = encoding.decode(storage.read(str(Generation.objects.get(cell=0).images.get().file)))
    assert cells[0].tobytes() == made.tobytes()
    assert cells[1].tobytes() == made.tobytes()
    assert cells[2].getpixel((90, 60)) == (0xED, 0xED, 0xEB), "deleted"
    assert cells[3].tobytes() == blurred(made).tobytes(), "flagged"
    assert min(labels.convert("L").tobytes()) < 64, "there are labels above"


@pytest.mark.parametrize("text", ["夜にする", "밤으로", "🌙", "night 夜"])
def test_labels_leave_other_scripts_to_the_page(text: str) -> None:
    assert not labelled_grid.can_write(text)


def test_labels_that_cannot_be_drawn_are_numbered(signed_in: Client, alice: User) -> None:
    sheet = made_sheet(alice)

    def drawn(*prompts: str) -> bytes:
        ContactSheet.objects.filter(pk=sheet.pk).update(columns={"field": "prompt", "values": prompts})
        content = signed_in.get(f"/sheets/{sheet.pk}/sheet.png").content
        assert b"c2pa" in content
        return encoding.decode(content).tobytes()

    drawable = "été, größer: 7.5 × “ñ”, сделай ночь"
    assert labelled_grid.can_write(drawable)
    assert labelled_grid.can_write("اجعلها ليلا") == features.check("raqm")
    # Were they drawn, they would differ.
    assert drawn("夜にする", drawable) == drawn("밤", drawable)
    assert len({drawn("夜", drawable), drawn(drawable, "夜"), drawn("夜", "夜"), drawn(drawable, drawable)}) == 4


def test_large_cells_are_drawn_smaller() -> None:
    assert labelled_grid.cell_size(96, 64, 36) == (96, 64)
    assert labelled_grid.cell_size(2048, 1024, 4) == (512, 256)
    width, height = labelled_grid.cell_size(2048, 2048, 100)
    assert width * height * 100 <= labelled_grid.MAX_PIXELS * 1.01


def test_a_sheet_is_deleted_as_a_whole_and_restored(signed_in: Client, alice: User) -> None:
    sheet = made_sheet(alice)
    running = Generation.objects.filter(cell=0)
    running.update(state=State.RUNNING)
    answer = signed_in.post(f"/sheets/{sheet.pk}/delete", follow=True)
    assert "cancel what remains first" in answer.content.decode()
    assert not Generation.objects.exclude(trashed=None).exists()
    running.update(state=State.SUCCEEDED)
    page = signed_in.post(f"/sheets/{sheet.pk}/delete", follow=True).content.decode()
    assert "3 moved to the" in page
    assert not Generation.objects.filter(trashed=None).exists()
    ids = re.findall(r'name="id" value="([\w-]+)"', page)
    restored = signed_in.post("/trash/restore", {"id": ids, "next": f"/sheets/{sheet.pk}/"}, follow=True)
    assert "3 of 4 done" in restored.content.decode()
