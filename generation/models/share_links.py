"""Share links."""

from django.db import models
from django.utils import timezone

from generation.models.generations import Generation


class ShareLink(models.Model):
    """An address under which anybody may see one picture of a generation, until it expires or is revoked."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="share_links")
    index = models.PositiveSmallIntegerField(default=0, help_text="Of the picture.")
    code = models.CharField(max_length=43, unique=True, editable=False, help_text="The random part of the address.")
    with_recipe = models.BooleanField(default=False, help_text="Whether prompt, model, seed and values are shown too.")
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created",)
