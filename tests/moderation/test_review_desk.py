"""The review page without scripts, and what its script asks for."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from generation.models import Generation, ShareLink
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review, review_queue
from tests.support.generations import half_mask
from tests.support.html import squeeze
from tests.support.pictures import scene
from tests.support.review import DESK, ago, flagged, scored


def test_the_page_shows_one_picture_and_all_about_it(desk: Client, alice: User, erin: User) -> None:
    earlier = flagged(alice)
    review.decide(earlier, erin, Review.CONFIRMED, Reason.NUDITY)
    image = flagged(alice, prompt="make it <night>", negative_prompt="fog")
    ShareLink.objects.create(user=image.generation.user, generation=image.generation, index=0, code="a")
    answer = desk.get(DESK)
    page = squeeze(answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    for text in (
        *(
            "flagged,<strong>shared</strong>",
            "make it &lt;night&gt;",
            "negative prompt: fog",
            "0.930 against 0.80, opennsfw",
            "dreamsite/tiny-edit, seed 1207",
        ),
        *("2 generations, 2 flagged; 1 picture confirmed", f'src="{DESK}{image.pk}/result"', "Nudity<kbd>"),
    ):
        assert text in page
    assert image.file.url not in page
    for which in ("input", "result"):
        answer = desk.get(f"{DESK}{image.pk}/{which}")
        assert answer["Content-Type"].startswith("image/")
        assert "no-store" in answer["Cache-Control"]
    assert desk.get(f"{DESK}{image.pk}/original").status_code == 404
    assert ReviewClaim.objects.get().image_id == image.pk


def test_without_scripts_forms_do_it_all(desk: Client, dora: User, alice: User) -> None:
    first, second = flagged(alice, created=ago(hours=2)), flagged(alice)
    form = {"review_before": "waiting", "seconds": "", "user": "alice"}
    answer = desk.post(f"{DESK}{first.pk}/decide", {**form, "decision": "confirmed sexual", "note": "why"}, follow=True)
    assert answer.redirect_chain[0][0] == f"{DESK}?user=alice"
    page = answer.content.decode()
    assert "Decided: confirmed, sexual." in page
    assert f'data-image="{second.pk}"' in page
    answer = desk.post(f"{DESK}{second.pk}/decide", {**form, "decision": "skip"}, follow=True)
    assert "You skipped <b>1</b>." in answer.content.decode()
    assert not ReviewClaim.objects.exists()
    answer = desk.post(f"{DESK}undo", {"user": "alice"}, follow=True)
    page = answer.content.decode()
    assert "Undone: confirmed." in page
    assert f'data-image="{first.pk}"' in page
    answer = desk.post(f"{DESK}{first.pk}/decide", {**form, "review_before": "safe", "decision": "safe"}, follow=True)
    assert "Your decision was not saved." in answer.content.decode()
    assert "nothing to undo" in desk.post(f"{DESK}undo", follow=True).content.decode()


def test_scripts_are_answered_in_json(desk: Client, erin: User, alice: User) -> None:
    image = flagged(alice)
    address = f"{DESK}{image.pk}/decide"
    form = {"review_before": "waiting", "decision": "safe", "seconds": "2.5"}
    accept = {"Accept": "application/json"}
    assert (
        desk.post(address, {**form, "decision": "confirmed"}, headers=accept)
        .json()["message"]
        .startswith("Choose a reason")
    )
    assert desk.post(address, form, headers=accept).json() == {
        "message": "Decided: safe.",
        "counts": dict.fromkeys(review_queue.QUEUE_LABELS, "0"),
        "others": "",
        "decided": 1,
        "skipped": 0,
    }
    assert ReviewDecision.objects.get().seconds == 2.5
    answer = desk.post(address, form, headers=accept)
    assert (answer.status_code, answer.json()["message"][:18]) == (409, "dora decided first")


def test_the_next_picture_is_claimed_ahead_and_released(desk: Client, alice: User) -> None:
    first, second = flagged(alice, created=ago(hours=2)), flagged(alice)
    desk.get(DESK)
    key = str(ReviewClaim.objects.get().key)
    ReviewClaim.objects.update(expires=timezone.now() + timedelta(seconds=1))
    page = desk.post(f"{DESK}next", {"exclude": first.pk, "key": key}).content.decode()
    assert f'data-image="{second.pk}"' in page
    assert ReviewClaim.objects.get(image=first).expires > timezone.now() + timedelta(minutes=4)
    assert desk.post(f"{DESK}next", {"exclude": [first.pk, second.pk]}).content == b""
    keys = list(ReviewClaim.objects.values_list("key", flat=True))
    assert desk.post(f"{DESK}release", {"key": [*keys, "odd"]}).status_code == 204
    assert not ReviewClaim.objects.exists()


def test_a_picture_claimed_by_another_is_shown_without_buttons(desk: Client, erin: User, alice: User) -> None:
    image = flagged(alice)
    review.claim(image, erin)
    page = desk.get(DESK, {"image": image.pk}).content.decode()
    assert "erin is reviewing it now." in page
    assert "Also reviewing: <b>erin</b>." in page
    assert 'name="decision"' not in page
    assert desk.get(DESK, {"image": "x"}).status_code == 404


@pytest.mark.parametrize("query", [{"why": "odd"}, {"user": "\0"}, {"model": "x" * 400}])
def test_odd_filters_answer(desk: Client, query: dict[str, str]) -> None:
    assert desk.get(DESK, query).status_code == 200


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "-1", "\0"])
def test_odd_numbers_are_no_pictures(desk: Client, alice: User, number: str) -> None:
    image = flagged(alice)
    assert desk.get(DESK, {"image": number}).status_code == 404
    assert f'data-image="{image.pk}"' in desk.post(f"{DESK}next", {"exclude": number}).content.decode()


def test_odd_forms_decide_nothing(desk: Client, alice: User) -> None:
    address = f"{DESK}{flagged(alice).pk}/decide"
    for seen in ("odd", "\0"):
        answer = desk.post(address, {"review_before": seen, "decision": "safe"}, headers={"Accept": "application/json"})
        assert (answer.status_code, "nothing was decided" in answer.json()["message"]) == (422, True)
    assert not ReviewDecision.objects.exists()
    desk.post(address, {"review_before": "waiting", "decision": "safe", "note": "a \0note\0 "})
    assert ReviewDecision.objects.get().note == "a note"


def test_the_number_of_queries_is_constant(desk: Client, alice: User) -> None:
    counted = []
    flagged(alice, created=ago(days=1))
    desk.get(DESK)
    for count in (1, 6):
        for _ in range(count):
            flagged(alice)
        with CaptureQueriesContext(connection) as queries:
            desk.get(DESK)
        counted.append(len(queries))
    assert counted[0] == counted[1] <= 31


def test_a_removed_upload_is_not_shown_as_failed(desk: Client, alice: User) -> None:
    image = flagged(alice)
    assert f"{DESK}{image.pk}/input" in desk.get(DESK, {"image": image.pk}).content.decode()
    Generation.objects.update(input="", input_thumbnail="")
    page = desk.get(DESK, {"image": image.pk}).content.decode()
    assert f"{DESK}{image.pk}/input" not in page
    assert "The upload was removed." in page


def test_masks_and_further_pictures_are_shown_until_they_are_removed(desk: Client, alice: User) -> None:
    image = flagged(alice, mask=half_mask(96, 64), references=[scene(32, 48)])
    page = desk.get(DESK).content.decode()
    assert "50 % may change" in page
    for which in ("mask", "reference-0"):
        assert f"{DESK}{image.pk}/{which}" in page
        assert desk.get(f"{DESK}{image.pk}/{which}")["Content-Type"].startswith("image/")
    assert desk.get(f"{DESK}{image.pk}/reference-1").status_code == 404
    image.generation.references.update(file="", thumbnail="")
    Generation.objects.update(mask="", mask_thumbnail="")
    page = desk.get(DESK).content.decode()
    for which in ("mask", "reference-0"):
        assert f"{DESK}{image.pk}/{which}" not in page
        assert desk.get(f"{DESK}{image.pk}/{which}").status_code == 404


def test_the_status_renews_claims_and_counts(desk: Client, dora: User, alice: User, erin: User) -> None:
    one, two, _ = scored(alice, 0.8, 0.9, 0.95)
    claim = review.claim(one, dora)
    assert claim
    review.claim(two, erin)
    ReviewClaim.objects.update(expires=timezone.now() + timedelta(seconds=5))
    review.decide(two, erin, Review.SAFE)
    review.claim(two, erin)
    answer = desk.post(f"{DESK}status", {"key": str(claim.key)}).json()
    assert answer == {
        "counts": {**dict.fromkeys(review_queue.QUEUE_LABELS, "0"), "": "2", "flagged": "2"},
        "others": "erin",
        "decided": 0,
        "skipped": 0,
    }
    claim.refresh_from_db()
    assert claim.expires > timezone.now() + timedelta(minutes=4)


def test_reviewers_see_the_thumbnail_of_a_quarantined_picture(desk: Client, dora: User, alice: User) -> None:
    image = flagged(alice)
    before = b"".join(desk.get(f"{DESK}{image.pk}/thumbnail"))
    review.decide(image, dora, Review.CONFIRMED, "nudity")
    assert b"".join(desk.get(f"{DESK}{image.pk}/thumbnail")) == before
    assert desk.get(f"{DESK}{image.pk}/original").status_code == 404
