"""Days in the service's time zone."""

from datetime import date, datetime, time

from django.utils import timezone


def start_of_day(day: date) -> datetime:
    """Return the midnight at which this day begins."""
    return timezone.make_aware(datetime.combine(day, time.min))
