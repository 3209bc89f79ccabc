"""Aliases of models: names that OpenAI's clients send."""

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from generation.models.diffusion import DiffusionModel


class ModelAliasQuerySet(models.QuerySet["ModelAlias"]):
    def named_models(self, user: Any) -> dict[str, DiffusionModel]:
        """Return what this user may name under `/v1`: the enabled models, the default first, then the aliases of these."""
        enabled = DiffusionModel.objects.allowed_to(user).filter(enabled=True).order_by("-is_default", "id")
        named: dict[str, DiffusionModel] = {model.pk: model for model in enabled}
        default = next((model for model in named.values() if model.is_default), None)
        targets = [(alias.name, named.get(alias.model_id) if alias.model_id else default) for alias in self]
        for name, model in targets:
            if model is not None:
                named.setdefault(name, model)
        return named


class ModelAlias(models.Model):
    """Another name of a model under `/v1`, for clients that cannot send the names of models here."""

    name = models.CharField(
        max_length=200,
        unique=True,
        validators=[RegexValidator(r"^[!-~]+\Z", "Use printable ASCII characters without spaces.")],
        help_text="What clients send as model, such as gpt-image-1.",
    )
    model = models.ForeignKey(
        DiffusionModel,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="aliases",
        help_text="The model that runs. Empty: the default model.",
    )

    objects: ClassVar[Any] = ModelAliasQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        verbose_name = "model alias"
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if DiffusionModel.objects.filter(pk=self.name).exists():
            raise ValidationError({"name": "There is a model of this name; requests for it run that model."})
