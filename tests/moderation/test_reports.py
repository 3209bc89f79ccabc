"""Reports of shared pictures: sent without an account, bounded by address, read by reviewers."""

import pytest
from django.test import Client

from accounts.models import User
from generation.library import albums, sharing
from generation.models import GeneratedImage, Generation
from generation.models.review import Report, Review
from generation.moderation import reports, review, review_queue
from generation.moderation.review_queue import ReviewFilter
from tests.support.generations import make_generation

pytestmark = pytest.mark.usefixtures("redis")

REASON = "This is <b>me</b>"


def link_to(generation: Generation) -> str:
    return f"/s/{sharing.share(generation, 0, None).code}"


def send(address: str, reason: str = REASON, **extra: str) -> int:
    """Send a report as a browser does that has not been here, and return the status of the answer."""
    browser = Client(enforce_csrf_checks=True)
    page = browser.get(address)
    # The CSRF check would refuse the origin "null" that browsers send where there is no referrer.
    assert page["Referrer-Policy"] == "same-origin"
    form = {"reason": reason, "csrfmiddlewaretoken": browser.cookies["csrftoken"].value}
    return browser.post(address, form, **extra).status_code  # type: ignore[arg-type]


def test_a_report_leads_into_the_review_queue(client: Client, alice: User, charlie: User) -> None:
    link = link_to(make_generation(alice))
    page = client.get(link).content.decode()
    assert f'href="{link}/report"' in page
    assert send(f"{link}/report") == 302
    image = GeneratedImage.objects.get()
    assert (image.review, image.nsfw) == (Review.REPORTED, False)
    assert list(review_queue.waiting(ReviewFilter(why="reported"))) == [image]
    assert review_queue.counts()["reported"] == 1
    # Who reported is not kept, but for a digest.
    assert "127.0.0.1" not in str(Report.objects.values().get())
    client.force_login(charlie)
    desk = client.get("/admin/review/?why=reported").content.decode()
    assert "This is &lt;b&gt;me&lt;/b&gt;" in desk
    assert review.claim_lowest(charlie, ReviewFilter(), 12) == {}


def test_what_reviewers_found_safe_is_looked_at_again_once(alice: User, charlie: User) -> None:
    link = link_to(make_generation(alice, sampled=[0]))
    review.decide(GeneratedImage.objects.get(), charlie, Review.SAFE)
    for state in (Review.REPORTED, Review.SAFE):
        assert send(f"{link}/report") == 302
        image = GeneratedImage.objects.get()
        assert image.review == state
        if state == Review.REPORTED:
            review.decide(image, charlie, Review.SAFE)
    assert Report.objects.count() == 2


def test_pictures_of_an_album_are_reported_one_by_one(client: Client, alice: User) -> None:
    first, second = make_generation(alice), make_generation(alice)
    album = albums.create(alice, "best")
    albums.add(album, [first.pk, second.pk])
    link = f"/s/{sharing.share_album(album, None, False).code}"
    address = f"{link}/{album.entries.get(generation=second).pk}/0/report"
    assert f'href="{address}"' in client.get(link).content.decode()
    assert send(address) == 302
    assert Report.objects.get().image == second.images.get()
    assert client.get(f"{link}/report").status_code == 404


def test_reports_are_bounded(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_to(make_generation(alice))
    address = f"{link}/report"
    assert send(address, "x" * (reports.MAX_REASON_LENGTH + 1)) == 422
    assert send(address, " ") == 422
    assert [send(address) for _ in range(reports.MAX_PER_HOUR + 1)] == [302] * reports.MAX_PER_HOUR + [429]
    assert send(address, REMOTE_ADDR="192.0.2.1") == 302
    # One network of IPv6 is one sender.
    assert send(address, REMOTE_ADDR="2001:db8::1") == 302
    monkeypatch.setattr(reports, "MAX_PER_HOUR", 1)
    assert send(address, REMOTE_ADDR="2001:db8::2") == 429
    monkeypatch.setattr(reports, "MAX_PER_PICTURE", Report.objects.count())
    assert send(address, REMOTE_ADDR="192.0.2.2") == 302
    assert Report.objects.count() == reports.MAX_PER_PICTURE
    sharing.revoke(sharing.live_links(Generation.objects.get()))
    assert client.get(address).status_code == 404
    assert client.post(address, {"reason": REASON}).status_code == 404
