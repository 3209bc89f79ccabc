"""Demo data: they have pictures to review, and rows can be deleted independently of each other."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.utils import timezone

from accounts.models import User
from dreamsite.management.commands.demo_data import FOLDER
from generation.library import albums, deletion
from generation.models import GeneratedImage, Generation, ShareLink
from generation.models.review import DECIDED, Reason, Review, ReviewDecision
from generation.moderation import metrics, review, review_queue

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(autouse=True)
def _filled(db: None, settings: Any) -> None:
    settings.REVIEW_SAMPLE = 0.2
    call_command("demo_data", generations=1500, users=2, stdout=io.StringIO())


def test_the_data_have_pictures_to_review_and_metrics(charlie: User) -> None:
    counts = review_queue.counts()
    assert counts["flagged"] or counts["sample"]
    decided = GeneratedImage.objects.filter(review__in=DECIDED)
    assert decided.count() == ReviewDecision.objects.count() > 50
    assert not decided.filter(review=Review.SAFE, nsfw=True).exists()
    flagged = set(GeneratedImage.objects.filter(nsfw=True).values_list("generation", flat=True))
    assert set(Generation.objects.filter(is_flagged=True).values_list("pk", flat=True)) == flagged
    review_metrics = metrics.review_metrics(timezone.now() - timedelta(days=800))
    assert review_metrics.threshold == 0.8
    assert review_metrics.curve[85].precision is not None
    assert review_metrics.curve[85].recall is not None
    assert sum(count for _, count in metrics.reasons(timezone.now() - timedelta(days=800))) > 0
    assert {reason for reason, _ in metrics.reasons(timezone.now())} == set(Reason.values)
    assert len(metrics.reviewers(timezone.now() - timedelta(days=800))) == 3


def test_the_first_user_has_an_album_that_is_shared() -> None:
    link = ShareLink.objects.get()
    assert link.album is not None
    assert (link.user.username, link.album.entries.count()) == ("demo-1", 12)
    assert albums.public_images(link.album).count() >= 12
    call_command("demo_data", generations=10, users=1, stdout=io.StringIO())
    assert ShareLink.objects.count() == 1


def test_deleting_or_confirming_one_generation_leaves_the_pictures_of_others(charlie: User) -> None:
    names = {name for image in GeneratedImage.objects.all() for name in image.file_names} | {"demo/input.webp"}
    assert all(name.startswith(FOLDER) for name in names)
    one, other = GeneratedImage.objects.filter(review="").select_related("generation")[:2]
    review.decide(one, charlie, Review.CONFIRMED, Reason.OTHER)
    assert deletion.delete(other.generation)
    one.refresh_from_db()
    assert not str(one.file.name).startswith(FOLDER)
    assert [name for name in names if not default_storage.exists(name)] == []
