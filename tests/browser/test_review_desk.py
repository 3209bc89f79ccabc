"""The review page in a real browser: decisions by keyboard, two reviewers at once, blurring."""

import re
from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import GeneratedImage
from generation.models.review import Review, ReviewClaim, ReviewDecision
from generation.moderation import review
from tests.support.browser import WAIT_MILLISECONDS, needs_chromium
from tests.support.generations import make_generation
from tests.support.pictures import scene
from tests.support.roles import REVIEWERS, staff
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]


def desk(browser: Browser, live_server: LiveServer, name: str) -> Page:
    """Return the review page, signed in as a new reviewer of this name."""
    staff(name, REVIEWERS)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    page.goto(f"{live_server.url}/admin/review/")
    # The browser sets the focus when it draws the page, which may be after the load event.
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(f"{name}-password")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{live_server.url}/admin/review/")
    return page


def current_image(page: Page) -> int:
    return int(page.locator("#desk .item").get_attribute("data-image") or 0)


def wait_for_preload(page: Page) -> None:
    expect(page.locator("#ready .item")).to_have_count(1)


def test_ten_pictures_by_keyboard_alone(browser: Browser, live_server: LiveServer, alice: User) -> None:
    for number in range(12):
        make_generation(alice, flagged=[0], created=timezone.now() - timedelta(minutes=30 - number))
    page = desk(browser, live_server, "dora")
    picture = page.locator("#desk .after img")
    expect(picture).to_have_css("filter", "blur(28px) grayscale(1)")
    page.keyboard.press("1")
    page.keyboard.press("v")
    expect(picture).to_have_css("filter", "grayscale(1)")
    page.keyboard.press("c")
    expect(picture).to_have_css("filter", "none")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    expect(picture).to_have_css("filter", "blur(28px) grayscale(1)")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Safe")
    page.keyboard.press("Escape")

    def count(queue: str) -> Locator:
        return page.locator(f'[data-queue="{queue}"]')

    expect(count("flagged")).to_have_text("12")
    image_ids = []
    for number in range(10):
        image_ids.append(current_image(page))
        page.keyboard.press("v")
        if number == 3:
            page.keyboard.press("n")
            page.keyboard.type("as before")
            page.keyboard.press("Escape")
        if number % 5 == 4:
            page.keyboard.press("e")
        elif number % 2:
            page.keyboard.press("r")
            expect(page.get_by_role("button", name="Nudity")).to_be_focused()
            page.keyboard.press("2")
        else:
            page.keyboard.press("a")
        expect(page.locator("#desk .item")).not_to_have_attribute("data-image", str(image_ids[-1]))
        expect(picture).to_have_css("filter", "blur(28px) grayscale(1)")
    decisions = list(ReviewDecision.objects.order_by("id"))
    assert [decision.image_id for decision in decisions] == image_ids
    assert Counter(decision.after for decision in decisions) == {"safe": 4, "confirmed": 4, "escalated": 2}
    assert {decision.reason for decision in decisions if decision.after == Review.CONFIRMED} == {"sexual"}
    assert [decision.note for decision in decisions] == [*3 * [""], "as before", *6 * [""]]
    assert all(decision.seconds is not None and 0 < decision.seconds < 60 for decision in decisions)

    expect(count("flagged")).to_have_text("2")
    expect(count("escalated")).to_have_text("2")
    expect(count("")).to_have_text("4")
    page.keyboard.press("z")
    expect(page.get_by_text("Undone: escalated.")).to_be_visible()
    assert current_image(page) == image_ids[-1]
    wait_for_preload(page)
    assert ReviewClaim.objects.count() == 2
    expect(count("flagged")).to_have_text("3")
    page.keyboard.press("s")
    expect(page.get_by_text("You skipped 1.")).to_be_visible()
    expect(page.get_by_text("Undone: escalated.")).to_have_count(0)
    wait_for_preload(page)
    page.goto(f"{live_server.url}/history/")
    wait_until(lambda: not ReviewClaim.objects.exists(), "the release of the claims")
    page.context.close()


def test_what_is_claimed_ahead_is_released_before_its_answer(
    browser: Browser, live_server: LiveServer, alice: User
) -> None:
    for _ in range(2):
        make_generation(alice, flagged=[0])
    page = desk(browser, live_server, "dora")
    wait_for_preload(page)
    # The next picture is claimed, but the answer does not come.
    page.route("**/review/next", lambda route: route.fetch())
    page.reload()
    # The route is served while this asks the page.
    wait_until(lambda: page.evaluate("true") and ReviewClaim.objects.count() == 2, "the next claim")
    page.goto(f"{live_server.url}/history/")
    wait_until(lambda: not ReviewClaim.objects.exists(), "the release of both claims")
    page.context.close()


def test_two_reviewers_at_once(browser: Browser, live_server: LiveServer, alice: User) -> None:
    for number in range(5):
        make_generation(alice, flagged=[0], created=timezone.now() - timedelta(minutes=30 - number))
    dora, erin = desk(browser, live_server, "dora"), desk(browser, live_server, "erin")
    wait_for_preload(dora)
    wait_for_preload(erin)
    assert len(set(ReviewClaim.objects.values_list("image", flat=True))) == 4
    erin.reload()
    expect(erin.get_by_text("Also reviewing: dora.")).to_be_visible()
    assert current_image(dora) != current_image(erin)

    # Erin may see the picture that Dora reviews; her page claims nothing and sends no request that is refused.
    errors: list[str] = []
    other = erin.context.new_page()
    other.on("response", lambda answer: errors.append(answer.url) if answer.status >= 400 else None)
    other.goto(f"{live_server.url}/admin/review/?image={current_image(dora)}")
    expect(other.get_by_text("dora is reviewing it now.")).to_be_visible()
    other.goto(f"{live_server.url}/admin/review/metrics/")
    assert (errors, ReviewClaim.objects.count()) == ([], 4)
    other.close()

    # Dora's claim expires, and Erin claims her picture.
    image_id = current_image(dora)
    ReviewClaim.objects.filter(reviewer__username="dora").update(expires=timezone.now() - timedelta(seconds=1))
    erin.goto(f"{live_server.url}/admin/review/?image={image_id}")
    erin.keyboard.press("a")
    expect(erin.get_by_text("Decided: safe.")).to_be_visible()
    dora.keyboard.press("r")
    dora.keyboard.press("1")
    expect(dora.get_by_text("erin decided first: safe. Your decision was not saved.")).to_be_visible()

    for _ in range(4):
        for page in (dora, erin):
            expect(page.locator("#desk .item").or_(page.get_by_text("Nothing to review"))).to_be_visible()
            page.wait_for_load_state()
            if page.locator("#desk .item").count():
                before = current_image(page)
                page.keyboard.press("a")
                expect(page.locator(f'#desk .item[data-image="{before}"]')).to_have_count(0)
    expect(dora.get_by_text("Nothing to review")).to_be_visible()
    assert not GeneratedImage.objects.exclude(review=Review.SAFE).exists()
    assert sorted(Counter(ReviewDecision.objects.values_list("image", flat=True)).values()) == [1] * 5
    assert ReviewDecision.objects.values("reviewer").distinct().count() == 2
    for page in (dora, erin):
        page.context.close()


def look_again(page: Page) -> None:
    """Let the page think that it is looked at again, which it takes as a reason to ask for the counts."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_kept_view_stays_for_the_session_of_its_reviewer(
    browser: Browser, live_server: LiveServer, client: Client, alice: User
) -> None:
    for _ in range(5):
        make_generation(alice, flagged=[0])
    page = desk(browser, live_server, "dora")
    picture = page.locator("#desk .after img")
    for key in "vk":
        page.keyboard.press(key)
    wait_for_preload(page)
    first = current_image(page)
    page.keyboard.press("a")
    expect(page.locator("#desk .item")).not_to_have_attribute("data-image", str(first))
    expect(picture).to_have_css("filter", "grayscale(1)")
    page.keyboard.press("f")
    closely = page.locator(".viewer-pane img")
    expect(closely).to_have_count(2)
    expect(closely.first).to_have_css("filter", "grayscale(1)")
    page.keyboard.press("Escape")
    expect(closely).to_have_count(0)
    page.keyboard.press("c")
    page.keyboard.press("f")
    expect(closely.first).to_have_css("filter", "none")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    # While the page is left, nobody sees them.
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    expect(picture).to_have_css("filter", "blur(28px) grayscale(1)")
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(picture).to_have_css("filter", "grayscale(1)")
    page.reload()
    expect(picture).to_have_css("filter", "grayscale(1)")

    client.force_login(staff("erin", REVIEWERS))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page.reload()
    expect(page.get_by_label("Keep for this session")).not_to_be_checked()
    expect(picture).to_have_css("filter", "blur(28px) grayscale(1)")
    page.context.close()


def test_counts_follow_what_others_do(browser: Browser, live_server: LiveServer, alice: User) -> None:
    first = make_generation(alice, flagged=[0]).images.get()
    page = desk(browser, live_server, "dora")
    erin = staff("erin", REVIEWERS)
    other = make_generation(alice, flagged=[0]).images.get()
    review.claim(other, erin)
    look_again(page)
    expect(page.locator('[data-queue="flagged"]')).to_have_text("2")
    expect(page.get_by_text("Also reviewing: erin.")).to_be_visible()
    expect(page.locator(".bar .count")).to_contain_text("2")
    page.keyboard.press("a")
    expect(page.get_by_text("Nothing to review")).to_be_visible()
    expect(page.get_by_text("You decided 1 today.")).to_be_visible()
    # A page without a picture shows the next one that waits.
    last = make_generation(alice, flagged=[0]).images.get()
    look_again(page)
    expect(page.locator("#desk .item")).to_have_attribute("data-image", str(last.pk))
    assert GeneratedImage.objects.get(pk=first.pk).review == Review.SAFE
    page.context.close()


def test_a_batch_by_keyboard_and_on_a_phone(browser: Browser, live_server: LiveServer, alice: User) -> None:
    images = [make_generation(alice, flagged=[0]).images.get() for _ in range(14)]
    page = desk(browser, live_server, "dora")
    # The page knows its claims, to release them, once it has the next picture.
    wait_for_preload(page)
    page.keyboard.press("b")
    pictures = page.locator(".batch img")
    expect(pictures).to_have_count(12)
    expect(pictures.first).to_have_css("filter", "blur(28px) grayscale(1)")
    wait_until(lambda: ReviewClaim.objects.count() == 12, "the claims of the batch alone")
    page.get_by_role("link", name="look closely").nth(1).click()
    closely = page.locator(".viewer-pane img")
    expect(closely).to_have_css("filter", "blur(40px) grayscale(1)")
    expect(closely).to_have_attribute("src", re.compile("/result$"))
    tag = page.locator(".viewer-pane .reveal:visible")
    expect(tag).to_have_text(re.compile(r"^\s*show"))
    tag.click()
    expect(closely).to_have_css("filter", "grayscale(1)")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(closely).to_have_css("filter", "blur(40px) grayscale(1)")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("-")
    expect(page.get_by_role("button", name="Mark 10 safe")).to_be_in_viewport()
    page.keyboard.press("a")
    expect(page.get_by_text("10 marked safe.")).to_be_visible()
    expect(pictures).to_have_count(2)
    assert GeneratedImage.objects.filter(review=Review.SAFE).count() == 10
    page.keyboard.press("z")
    expect(page.get_by_text("Undone: 10 decisions.")).to_be_visible()
    assert GeneratedImage.objects.filter(review=Review.WAITING).count() == len(images)

    # Without scripts nothing could keep the view.
    page.evaluate("document.documentElement.classList.remove('js')")
    expect(page.get_by_label("Sharp")).to_be_visible()
    expect(page.get_by_label("Keep for this session")).to_be_hidden()

    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("button", name="Mark 12 safe")).to_be_in_viewport()
    page.get_by_role("link", name="One by one").click()
    page.wait_for_url(f"{live_server.url}/admin/review/")
    for place in (0, 10_000):
        page.evaluate(f"scrollTo(0, {place})")
        for name in ("Safe", "Escalate", "Skip"):
            expect(page.get_by_role("button", name=name, exact=True)).to_be_in_viewport(ratio=1)
    page.locator("#desk summary").click()
    expect(page.get_by_role("button", name="Nudity")).to_be_in_viewport(ratio=1)
    page.context.close()


def test_metrics_answer_for_exactly_the_asked_threshold(browser: Browser, live_server: LiveServer, alice: User) -> None:
    for score in (0.804, 0.806):
        GeneratedImage.objects.filter(generation=make_generation(alice, flagged=[0])).update(nsfw_score=score)
    page = desk(browser, live_server, "dora")
    page.get_by_role("link", name="Metrics").click()
    page.get_by_label("at threshold").fill("0.805")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("at threshold")).to_have_value("0.805")
    expect(page.locator("dt:text('flagged at this threshold') + dd")).to_have_text("1")
    expect(page.locator("dt:text('no longer flagged') + dd")).to_have_text("1")
    labels = page.locator("text.mark")
    expect(labels).to_have_text(["now", "selected"])
    page.wait_for_load_state()
    now, selected = (label.bounding_box() for label in labels.all())
    assert now is not None
    assert selected is not None
    assert now["y"] + now["height"] <= selected["y"], "their words do not overlap"
    page.context.close()


def test_a_reviewer_whose_session_ended_is_asked_to_sign_in(
    browser: Browser, live_server: LiveServer, alice: User
) -> None:
    for number in range(3):
        make_generation(alice, flagged=[0], created=timezone.now() - timedelta(minutes=30 - number))
    page = desk(browser, live_server, "dora")
    first = current_image(page)
    page.goto(f"{live_server.url}/admin/review/?image={first}")
    wait_for_preload(page)
    page.keyboard.press("a")
    expect(page.get_by_text("Decided: safe.")).to_be_visible()
    # After a reload the page continues with pictures that are not decided.
    page.reload()
    assert current_image(page) != first
    wait_for_preload(page)
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("a")
    page.wait_for_url("**/admin/login/?next=/admin/review/")
    assert ReviewDecision.objects.count() == 1
    page.context.close()


def test_a_reviewer_sees_the_mask_and_all_pictures_of_the_request(
    browser: Browser, live_server: LiveServer, alice: User
) -> None:
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 24, 64))
    make_generation(alice, flagged=[0], mask=mask, references=[scene(40, 40), scene(60, 40)])
    page = desk(browser, live_server, "dora")
    expect(page.locator("#desk .facts")).to_contain_text("25 % may change; the rest is the input's, pixel by pixel")
    overlay = page.locator("#desk .before .open-part")
    expect(overlay).to_be_hidden()
    page.keyboard.press("m")
    expect(overlay).to_be_visible()
    expect(overlay).to_have_js_property("naturalWidth", 96)
    further = page.get_by_alt_text(re.compile("^Further picture "))
    expect(further).to_have_count(2)
    expect(further.last).to_have_js_property("naturalWidth", 60)
    expect(further.last).to_have_css("filter", "blur(28px) grayscale(1)")
