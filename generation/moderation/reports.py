"""Reports: what strangers say about shared pictures. They lead into the review queue."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from generation.models import GeneratedImage
from generation.models.review import Report, Review

MAX_REASON_LENGTH = 500

MAX_PER_HOUR = 5
"""Most reports from an address, or for IPv6 from a network."""

MAX_PER_PICTURE = 20
"""Most reports that are kept about a picture: more tell reviewers nothing new."""


class TooManyReports(Exception):
    """The address has sent `MAX_PER_HOUR` reports within the last hour."""


def report(image: GeneratedImage, reason: str, address: str) -> None:
    """Keep a report and let reviewers see its picture; `address` is the sender's. Raises `TooManyReports`.

    A picture that reviewers found safe is reviewed again at its first report; at further ones they have seen the first.
    """
    sender = salted_hmac("generation.reports", address, algorithm="sha256").hexdigest()
    last_hour = timezone.now() - timedelta(hours=1)
    with transaction.atomic():
        if Report.objects.filter(sender=sender, when__gt=last_hour).count() >= MAX_PER_HOUR:
            raise TooManyReports
        count = Report.objects.filter(image=image).count()
        if count >= MAX_PER_PICTURE:
            return
        # PostgreSQL stores no NUL.
        Report.objects.create(image=image, reason=reason.replace("\0", ""), sender=sender)
        reviewed_again = (Review.NONE, Review.WAITING, Review.UNCHECKED, *([] if count else [Review.SAFE]))
        GeneratedImage.objects.filter(pk=image.pk, review__in=reviewed_again).update(review=Review.REPORTED)
