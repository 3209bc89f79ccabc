"""Review in batches: what is shown, marked safe and undone."""

import re

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from generation.models import GeneratedImage
from generation.models.review import Review, ReviewClaim
from generation.moderation import review
from tests.support.review import BATCH, DESK, flagged, scored


def shown_in_batch(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'name="shown" value="(\d+)"', page)]


def test_a_batch_has_the_lowest_scores_that_nobody_else_looks_at(desk: Client, alice: User, erin: User) -> None:
    high, low, middle, taken, escalated = scored(alice, 0.97, 0.81, 0.9, 0.8, 0.8)
    assert review.claim(taken, erin)
    review.decide(escalated, erin, Review.ESCALATED)
    unscored = flagged(alice)
    GeneratedImage.objects.filter(pk=unscored.pk).update(nsfw_score=None)
    page = desk.get(BATCH).content.decode()
    assert shown_in_batch(page) == [low.pk, middle.pk, high.pk]
    assert {claim.image_id for claim in ReviewClaim.objects.filter(reviewer__username="dora")} == {
        low.pk,
        middle.pk,
        high.pk,
    }
    assert review.claim(low, erin) is None
    assert "Batches have what the checker scored" in desk.get(f"{BATCH}?why=escalated").content.decode()
    assert len(re.findall("<li>", desk.get(f"{BATCH}?user=bob").content.decode().partition('class="batch"')[2])) == 0


def test_a_batch_is_marked_safe_at_once_and_undone_at_once(desk: Client, dora: User, alice: User, erin: User) -> None:
    first, second, third, stolen = scored(alice, 0.8, 0.81, 0.82, 0.83)
    page = desk.get(BATCH).content.decode()
    keys = re.findall(r'name="key" value="([^"]+)"', page)
    ReviewClaim.objects.filter(image=stolen).delete()
    review.decide(stolen, erin, Review.CONFIRMED, "nudity")
    form = {"shown": shown_in_batch(page), "image": [first.pk, second.pk, stolen.pk], "key": keys}
    said = desk.post(f"{BATCH}decide", form, follow=True).content.decode()
    assert "2 marked safe." in said
    assert "Erin decided first: confirmed. Your decision was not saved." in said
    reviews = dict(GeneratedImage.objects.values_list("pk", "review"))
    assert reviews == {first.pk: "safe", second.pk: "safe", third.pk: "waiting", stolen.pk: "confirmed"}
    # What was left out is for the page of single pictures, and free for other reviewers.
    assert shown_in_batch(said) == []
    assert 'What you left out of a batch waits to be looked at <a href="/admin/review/">one by one</a>.' in said
    assert not ReviewClaim.objects.exists()
    assert f'data-image="{third.pk}"' in desk.get(DESK).content.decode()
    assert review.decided_today(dora) == 2
    assert "Undone: 2 decisions." in desk.post(f"{DESK}undo", follow=True).content.decode()
    assert set(GeneratedImage.objects.filter(review=Review.WAITING)) == {first, second, third}
    assert review.decided_today(dora) == 0


def test_a_batch_marks_nothing_that_it_did_not_show(desk: Client, alice: User) -> None:
    image = flagged(alice)
    desk.post(f"{BATCH}decide", {"shown": [], "image": [image.pk, "x", 10**30]})
    image.refresh_from_db()
    assert image.review == Review.WAITING


def test_the_page_of_a_batch_takes_a_constant_number_of_queries(desk: Client, alice: User) -> None:
    counted = []
    for count in (2, 7):
        scored(alice, *[0.9] * count)
        with CaptureQueriesContext(connection) as queries:
            assert desk.get(BATCH).status_code == 200
        counted.append(len(queries))
    assert counted[0] == counted[1]
