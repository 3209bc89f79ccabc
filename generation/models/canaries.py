"""Canaries: a fixed request of each model, made again and again to notice when its pictures change."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from accounts.leased_jobs import LeasedJob, LeasedJobQuerySet
from generation.models.diffusion import DiffusionModel
from generation.models.environments import Environment


class CanaryQuerySet(LeasedJobQuerySet["Canary"]):
    def unaccepted(self) -> Self:
        """Return those of enabled models that failed, or whose picture changed, and that nobody has accepted."""
        return self.filter(accepted=None, model__enabled=True).exclude(finished=None)


class Canary(LeasedJob):
    """A run of a model's fixed request, or one that is to be made: see `generation.jobs.canaries`.

    Its picture is accepted at once if it is the first of its model, or has the same pixels as the accepted one before.
    """

    model = models.ForeignKey(DiffusionModel, models.CASCADE, related_name="+")
    worker = models.CharField(max_length=100, blank=True)
    environment = models.ForeignKey(
        Environment,
        models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
        help_text="What made it; if it failed, as much of it as was known.",
    )
    recipe = models.JSONField(default=dict)
    file = models.FileField(max_length=200, blank=True)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    problem = models.TextField(blank=True, help_text="Why it failed.")
    before = models.ForeignKey(
        "self", models.SET_NULL, null=True, related_name="+", help_text="The accepted one that it was compared with."
    )
    largest_difference = models.PositiveSmallIntegerField(
        null=True, help_text="Of a colour of a pixel to that of `before`, 0 to 255. Empty: they were not comparable."
    )
    psnr = models.FloatField(null=True, help_text="In decibels. Empty: the pixels are the same, or not comparable.")
    accepted = models.DateTimeField(null=True)
    accepted_by = models.CharField(max_length=150, blank=True, help_text="A username. Empty: nobody had to decide.")

    objects: ClassVar[Any] = CanaryQuerySet.as_manager()

    class Meta:
        ordering = ("-finished", "-pk")
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(finished=None), name="one_unfinished_canary_of_a_model"
            )
        ]

    def __str__(self) -> str:
        return f"canary {self.pk} of {self.model_id}"

    @property
    def made_with(self) -> dict[str, Any]:
        """Return all that may decide its pixels: the environment, the commit of the model, and the values it ran with."""
        values = {name: value for name, value in self.recipe.items() if name not in ("model", "loras")}
        revision = self.recipe.get("model", {}).get("revision", "")
        return {**(self.environment.values if self.environment else {}), "revision": revision, "recipe": values}
