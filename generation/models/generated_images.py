"""The pictures that generations make."""

import json
from hashlib import sha256
from random import random
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from generation.models.generations import Generation
from generation.models.review import Review
from generation.recipes import traits_of

NOT_MOVED = ~Q(file="") & (
    Q(review="confirmed", quarantined=None) | (~Q(review="confirmed") & ~Q(review="") & ~Q(original=""))
)
"""The pictures whose files are not where their review wants them, as if moving them was interrupted; nearly none.

The condition of a partial index: see `generation.moderation.quarantine`.
"""


class GeneratedImageQuerySet(models.QuerySet["GeneratedImage"]):
    def shown_to_strangers(self) -> Self:
        """Return the pictures that share links may show: the one rule of everything that others than the owner see.

        Left out are those of suspended or leaving users, those deleted, in the trash or on legal hold, and those that a
        reviewer confirmed or escalated.
        """
        is_kept = Q(generation__deleted=None, generation__trashed=None, generation__legal_hold=False)
        shown = self.filter(is_kept, generation__user__is_active=True)
        return shown.exclude(file="").exclude(review__in=(Review.CONFIRMED, Review.ESCALATED))

    def unveiled(self) -> Self:
        """Return the pictures that strangers see without a veil: see `GeneratedImage.is_veiled`."""
        return self.filter(~Q(checker="") | Q(review=Review.SAFE), nsfw=False)

    def await_review_if_unchecked(self) -> int:
        """Let reviewers see those that neither a checker nor a reviewer has seen, since others may see them now."""
        return self.filter(checker="", review=Review.NONE).update(review=Review.UNCHECKED)


class GeneratedImage(models.Model):
    """A picture of a generation. Flagged ones are stored unchanged; they are hidden when served."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="images", db_index=False)
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(db_index=True)
    file = models.FileField(max_length=200)
    thumbnail = models.FileField(max_length=200)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    nsfw = models.BooleanField(
        default=False, help_text="The checker's result, or the reviewer's decision if there is one."
    )
    nsfw_score = models.FloatField(null=True, blank=True, help_text="From 0 to 1. Empty: not checked.")
    checker = models.CharField(max_length=50, blank=True, help_text="Empty: not checked.")
    threshold = models.FloatField(null=True, blank=True)
    watermark = models.BigIntegerField(
        null=True, blank=True, db_index=True, help_text="What its watermark says of the picture. Empty: it has none."
    )
    review = models.CharField(max_length=10, choices=Review.choices, default=Review.NONE, blank=True)
    is_sample = models.BooleanField("sample", default=False, help_text="Chosen at random for review.")
    quarantined = models.DateTimeField(
        null=True, blank=True, help_text="When the links from before the confirmation stopped working."
    )
    # The picture itself while `file` is a placeholder: see `generation.moderation.quarantine`.
    original = models.FileField(max_length=200, blank=True)
    original_thumbnail = models.FileField(max_length=200, blank=True)

    objects: ClassVar[Any] = GeneratedImageQuerySet.as_manager()

    class Meta:
        ordering = ("index",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "index"], name="unique_image_index")]
        indexes: ClassVar = [
            models.Index(fields=["review", "is_sample", "generation"], condition=~Q(review=""), name="in_review"),
            models.Index(fields=["nsfw_score", "id"], condition=Q(review="waiting"), name="lowest_scores"),
            models.Index(fields=["id"], condition=NOT_MOVED, name="not_moved"),
        ]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation_id}"

    @property
    def is_checked(self) -> bool:
        return self.checker != ""

    @property
    def has_watermark(self) -> bool:
        return self.watermark is not None

    @property
    def original_names(self) -> tuple[str, str]:
        """Return the files of the picture and its thumbnail, even while placeholders replace them."""
        return str((self.original or self.file).name), str((self.original_thumbnail or self.thumbnail).name)

    @property
    def file_names(self) -> list[str]:
        """Return all files of this row."""
        return [str(file.name) for file in (self.file, self.thumbnail, self.original, self.original_thumbnail) if file]

    @property
    def extension(self) -> str:
        """Return the extension of the file's name, such as `png`."""
        return str(self.file.name).rpartition(".")[2]

    @property
    def is_veiled(self) -> bool:
        """Return whether strangers see it blurred at first: it is flagged, or neither a checker nor a reviewer saw it."""
        return self.nsfw or not (self.is_checked or self.review == Review.SAFE)

    @property
    def is_flagged_by_checker(self) -> bool:
        """Return whether the checker flagged the picture, regardless of reviews."""
        return self.nsfw_score is not None and self.threshold is not None and self.nsfw_score >= self.threshold

    @property
    def recipe_digest(self) -> str:
        """Return a digest of all that decides the pixels: input, mask, references, model, values and seed.

        It is the same whoever asks for the picture, with however many others, and whatever fields without effect say.
        """
        generation = self.generation
        recipe = generation.get_recipe()
        without_effect = traits_of(recipe.model).without_effect
        values = recipe.model_dump(mode="json", exclude={"model", "seeds", "safety_check", *without_effect})
        references = list(generation.references.values_list("sha256", flat=True)) if recipe.references else []
        inputs = [generation.input_sha256, generation.mask_sha256, *references]
        parts = [inputs, recipe.model.id, recipe.model.revision, self.seed, values]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def await_review(self, share: float) -> None:
        """Mark an unsaved image for review if it is flagged, and a random `share` (0 to 1) of the others."""
        self.is_sample = not self.nsfw and random() < share  # noqa: S311  not a secret
        if self.nsfw or self.is_sample:
            self.review = Review.WAITING
