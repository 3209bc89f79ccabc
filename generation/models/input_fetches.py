"""Fetches of inputs from `image_url`."""

from django.db import models
from uuid_utils.compat import uuid7

from accounts.leased_jobs import LeasedJob
from generation.models.generations import Generation


class InputFetch(LeasedJob):
    """The fetch of a request's `image_url`, which waits or runs. Its generation starts only when it is done.

    The transaction that stores its result, or that ends the generation before it began, deletes the row.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    generation = models.OneToOneField(Generation, models.CASCADE, related_name="input_fetch")

    class Meta:
        default_permissions = ()
