"""The viewer in a real browser: zoom and pan, alone and in pairs, steps to other pictures, flagged pictures."""

import math
import re

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import ContactSheet, Generation
from tests.support.browser import check_everywhere, check_look, needs_chromium, sign_in
from tests.support.generations import make_generation
from tests.support.pictures import scene
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

SHOWN = """Array.from(document.querySelectorAll('.viewer-pane:not([hidden]) img'), (image) => {
  const [box, pane] = [image.getBoundingClientRect(), image.parentElement.getBoundingClientRect()];
  return [box.width, box.height, box.x - pane.x, box.y - pane.y].map(Math.round);
})"""
"""Size and place of each picture within its pane, in pixels."""


def test_two_pictures_are_looked_at_closely_together(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, picture=scene(192, 128))
    sign_in(page)
    page.goto(f"{live_server.url}/history/{generation.pk}/")
    page.keyboard.press("z")
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_alt_text("result")).to_be_visible()
    expect(viewer.get_by_alt_text("input")).to_be_visible()
    page.keyboard.press("1")
    expect(viewer.locator("[data-viewer-percent]")).to_have_text("100 %")
    assert [shown[:2] for shown in page.evaluate(SHOWN)] == [[192, 128], [192, 128]]

    # A wheel over the left half of the second picture moves both to the same part.
    box = viewer.locator(".viewer-pane").nth(1).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2 - 10)
    page.mouse.wheel(0, -500 * math.log(6))
    expect(viewer.locator("[data-viewer-percent]")).to_have_text("600 %")
    left, right = page.evaluate(SHOWN)
    assert left == right
    assert left[:2] == [1152, 768]
    # The part under the pointer stayed there: of 192 pixels it was the 76th, and left of the middle by 20 on the page.
    assert abs(left[2] + 76 * 6 - (box["width"] / 2 - 20)) < 4, "the pointer is rounded to a pixel"
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2)
    page.mouse.up()
    moved, also_moved = page.evaluate(SHOWN)
    assert moved == also_moved
    assert moved[2] == left[2] - 40
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate(SHOWN)[0][2] > moved[2]
    page.keyboard.press("0")
    whole = page.evaluate(SHOWN)[0]
    assert whole[0] == round(box["width"])
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate(SHOWN)[0][0] == round(box["width"] * 1.25**2)
    page.keyboard.press("-")
    assert page.evaluate(SHOWN)[0][0] == round(box["width"] * 1.25)
    percent = viewer.locator("[data-viewer-percent]").inner_text()
    expect(viewer.get_by_role("status")).to_have_text(percent)

    page.keyboard.press("c")
    expect(viewer.get_by_alt_text("input")).to_be_hidden()
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        check_look(page)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.get_by_role("button", name="Look closely")).to_be_focused()


def test_two_fingers_zoom_and_one_swipes(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page)
    page.goto(f"{live_server.url}/history/{generation.pk}/")
    page.get_by_role("button", name="Look closely").click()
    viewer = page.get_by_role("dialog", name="Picture")
    viewer.get_by_role("button", name="Compare").click()
    expect(viewer).to_contain_text("1 of 2")
    # However long the name is, the place in the set stays in sight.
    viewer.locator("[data-viewer-name]").evaluate("name => name.textContent = 'a long name '.repeat(20)")
    box = viewer.locator("[data-viewer-count]").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    before = page.evaluate(SHOWN)[0]
    touch = page.context.new_cdp_session(page)

    def send(type_: str, *points: tuple[int, int]) -> None:
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": type_, "touchPoints": [{"x": x, "y": y, "id": int(x < 195)} for x, y in points]},
        )

    send("touchStart", (150, 400), (240, 400))
    send("touchMove", (105, 400), (285, 400))
    send("touchEnd")
    wait_until(lambda: page.evaluate(SHOWN)[0][0] == 2 * before[0], "the zoom")
    viewer.get_by_role("button", name="Fit").click()
    for start, end, place in ((300, 200, "2 of 2"), (100, 190, "1 of 2")):
        send("touchStart", (start, 400))
        send("touchMove", (end, 400))
        send("touchEnd")
        expect(viewer).to_contain_text(place)


def test_a_flagged_picture_is_blurred_until_it_is_shown(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, num_images_per_prompt=3, flagged=[1])
    sign_in(page)
    page.goto(f"{live_server.url}/history/{generation.pk}/")
    page.keyboard.press("z")
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_role("button", name="Previous picture")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_role("status")).to_have_text(re.compile(r"result 2, seed \d+, 2 of 3, blurred"))
    picture = viewer.get_by_alt_text("result 2")
    expect(picture).to_have_css("filter", re.compile("blur"))
    for key in ("+", "0", "c", "c"):
        page.keyboard.press(key)
    expect(picture).to_have_css("filter", re.compile("blur"))
    viewer.locator(".flagged .reveal").click()
    expect(picture).to_have_css("filter", "none")
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_alt_text("result 3")).to_have_css("filter", "none")
    page.keyboard.press("ArrowLeft")
    expect(picture).to_have_css("filter", re.compile("blur"))
    page.keyboard.press("Escape")

    # The page and the viewer agree on what is shown.
    page.goto(f"{live_server.url}/history/{generation.pk}/?picture=2")
    page.locator(".compare .reveal").click()
    page.keyboard.press("z")
    expect(picture).to_have_css("filter", "none")
    viewer.locator(".flagged .reveal").click()
    page.keyboard.press("Escape")
    expect(page.locator(".after img")).to_have_css("filter", re.compile("blur"))


def test_a_flagged_input_is_blurred_like_the_result(page: Page, alice: User, live_server: LiveServer) -> None:
    origin = make_generation(alice, flagged=[0])
    generation = make_generation(alice, flagged=[0])
    Generation.objects.filter(pk=generation.pk).update(source=origin.images.get())
    sign_in(page)
    page.goto(f"{live_server.url}/history/{generation.pk}/")
    expect(page.locator(".before img")).to_have_css("filter", re.compile("blur"))
    page.keyboard.press("z")
    viewer = page.get_by_role("dialog", name="Picture")
    result, given = viewer.get_by_alt_text("result"), viewer.get_by_alt_text("input")
    tags = viewer.locator(".flagged .reveal")
    expect(tags).to_have_count(2)
    # The page has one tag for both, so both are shown and hidden together.
    for tag, look in ((0, "none"), (1, re.compile("blur")), (1, "none"), (0, re.compile("blur"))):
        tags.nth(tag).click()
        for picture in (result, given):
            expect(picture).to_have_css("filter", look)
    page.keyboard.press("Escape")
    expect(page.locator(".before img")).to_have_css("filter", re.compile("blur"))


def test_the_arrows_go_through_rows_and_columns_of_a_contact_sheet(
    page: Page, alice: User, live_server: LiveServer
) -> None:
    columns, rows = {"field": "seed", "values": ["1", "2"]}, {"field": "prompt", "values": ["cats", "hats"]}
    sheet = ContactSheet.objects.create(user=alice, columns=columns, rows=rows)
    for cell in range(4):
        row = make_generation(alice, flagged=[0] if cell == 3 else [])
        Generation.objects.filter(pk=row.pk).update(contact_sheet=sheet, cell=cell)
    sign_in(page)
    page.goto(f"{live_server.url}/sheets/{sheet.pk}/")
    check_everywhere(page)
    page.get_by_role("link", name="Prompt cats, Seed 1").click()
    viewer = page.get_by_role("dialog", name="Picture")
    for key, name in (
        ("Down", "hats, Seed 1"),
        ("Right", "hats, Seed 2"),
        ("Up", "cats, Seed 2"),
        ("Down", "hats, Seed 2"),
    ):
        page.keyboard.press(f"Arrow{key}")
        expect(viewer.get_by_role("status")).to_have_text(re.compile(f"Prompt {name}"))
    expect(viewer.get_by_role("button", name="Picture below")).to_be_hidden()
    viewer.locator(".flagged .reveal").click()
    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.press("c")
    above = viewer.get_by_role("button", name="Picture above").bounding_box()
    left = viewer.get_by_role("button", name="Previous picture").bounding_box()
    assert above
    assert left
    for caption in viewer.locator("figcaption").all():
        box = caption.bounding_box()
        assert box
        assert left["x"] + left["width"] <= box["x"] < box["x"] + box["width"] <= above["x"], "no step covers a name"
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1440, "height": 900})
    last = page.get_by_role("link", name="Prompt hats, Seed 2")
    expect(last).to_be_focused()
    expect(last.locator("img")).to_have_css("filter", "none")
    page.keyboard.press("Enter")
    viewer.get_by_role("link", name="Use these values").click()
    expect(page.locator("#prompt")).to_have_value("make it night")
