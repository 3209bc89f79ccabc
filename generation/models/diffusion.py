"""Models and LoRAs that requests may use, and their permissions."""

import re
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q

from generation.families import FAMILY_TRAITS, Family
from generation.memory import PACKAGES, MemoryOptions, Offload, Quantization
from generation.parameters import ErrorCode, ImageToImageParameters, RequestRefused, bounds
from generation.recipes import BUNDLED_OWNER, Limits, LoraReference, ModelReference

REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


class RepositoryModel(models.Model):
    """Weights that staff may enable: bundled, in MODELS_DIR, or on the hub at a pinned commit."""

    id = models.CharField(
        "name",
        primary_key=True,
        max_length=200,
        validators=[
            RegexValidator(REPOSITORY, "Use the form owner/name, of letters, digits, dots, dashes and underscores.")
        ],
        help_text="owner/name",
    )
    revision = models.CharField(
        max_length=40,
        blank=True,
        editable=False,
        help_text="Commit of the hub repository. Empty for bundled weights and directories in MODELS_DIR.",
    )
    weight_name = models.CharField(
        "file",
        max_length=200,
        blank=True,
        help_text="The only file of the repository that is used. Empty: all that are needed.",
    )
    licence = models.CharField(max_length=200, blank=True, editable=False)
    is_gated = models.BooleanField("gated", default=False, editable=False)
    download_bytes = models.PositiveBigIntegerField(
        null=True, editable=False, help_text="Of the files that are fetched, or lie on disk. Empty: unknown."
    )
    inspection_problem = models.TextField(
        blank=True, editable=False, help_text="Why the repository could not be read when it was last inspected."
    )
    enabled = models.BooleanField(default=False, help_text="Whether requests can use it.")

    class Meta:
        abstract = True
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id

    def clean(self) -> None:
        super().clean()
        if not self.enabled or self.revision or not REPOSITORY.match(self.id):
            return
        if self.id.partition("/")[0] != BUNDLED_OWNER and not (settings.MODELS_DIR / self.id).is_dir():
            raise ValidationError(
                {"enabled": f"There is no {self.id} in MODELS_DIR, and no commit was chosen: inspect it, then save."}
            )


class DiffusionModelQuerySet(models.QuerySet["DiffusionModel"]):
    def allowed_to(self, user: Any) -> Self:
        """Return the models open to everyone or to a group of this user; all models for superusers."""
        if user.is_superuser:
            return self
        permissions = DiffusionModel.allowed_groups.through.objects.filter(diffusionmodel=OuterRef("pk"))
        return self.filter(~Exists(permissions) | Exists(permissions.filter(group__user=user)))

    def listed(self) -> Self:
        """Return the enabled models, the default first, with their enabled LoRAs prefetched."""
        loras = models.Prefetch("loras", Lora.objects.filter(enabled=True))
        return self.filter(enabled=True).order_by("-is_default", "id").prefetch_related(loras)

    def usable(self, model_id: str) -> "DiffusionModel":
        """Return the enabled model of this name, the default for "". Raises `RequestRefused`."""
        model = self.filter(Q(id=model_id) if model_id else Q(is_default=True), enabled=True).first()
        if model is None and model_id:
            raise RequestRefused(
                ErrorCode.UNKNOWN_MODEL, "There is no such model here; leave model_id empty for the default model."
            )
        if model is None:
            raise RequestRefused(ErrorCode.UNKNOWN_MODEL, "No default model is enabled; name one in model_id.")
        return model


class DiffusionModel(RepositoryModel):
    """A model, and the limits that staff set on it."""

    family = models.CharField(
        max_length=30,
        choices=[(family.value, family.value) for family in Family],
        help_text="The kind of pipeline it needs.",
    )
    is_default = models.BooleanField("default", default=False, help_text="Used by requests without model_id.")
    pool = models.CharField(max_length=50, default="default", help_text="The pool of workers that run it.")
    allowed_groups = models.ManyToManyField(
        "auth.Group",
        blank=True,
        related_name="+",
        help_text="Groups that can use it; it is hidden from other users. Empty: everyone.",
    )
    max_steps = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1),
            MaxValueValidator(int(bounds(ImageToImageParameters.model_fields["num_inference_steps"])["le"])),
        ],
    )
    max_images = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1),
            MaxValueValidator(int(bounds(ImageToImageParameters.model_fields["num_images_per_prompt"])["le"])),
        ],
    )
    max_side = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(64)], help_text="Longest side of a result, in pixels."
    )

    cost_weight = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0.001)],
        help_text="Cost of a step per megapixel, relative to the bundled model.",
    )
    example_prompts = models.TextField(
        blank=True,
        max_length=10_000,
        help_text="Example prompts, one per line, for the studio and GET /models.",
    )
    summary = models.CharField(
        max_length=120, blank=True, help_text="What it does, in one line, for those who choose a model in the studio."
    )
    prompt_label = models.CharField(
        max_length=60, blank=True, help_text="What the studio asks for above the prompt. Empty: what suits its family."
    )
    placeholder = models.CharField(
        max_length=120,
        blank=True,
        help_text="A prompt that the studio shows while none is written. Empty: what suits its family.",
    )
    watermark = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Whether its pictures carry the watermark. Off: they are as the model makes them, bit for bit.",
    )
    offload = models.CharField(
        max_length=10,
        blank=True,
        choices=[("", "automatic"), ("none", "none"), ("model", "model"), ("group", "group")],
        default="",
        help_text="What waits in the host's memory while others compute: nothing, whole networks, or all layers but the one "
        "that computes, which is slow.",
    )
    quantization = models.CharField(
        max_length=10,
        blank=True,
        choices=[("", "automatic"), ("none", "none"), ("8-bit", "8 bit"), ("fp8", "fp8"), ("4-bit", "4 bit")],
        default="",
        help_text="Smaller weights for denoiser and text encoders, which change the pictures. 8 bit needs the package torchao "
        "on the workers, 4 bit bitsandbytes; LoRAs do not work with fp8.",
    )
    vae_tiling = models.BooleanField(
        "VAE tiling",
        null=True,
        blank=True,
        choices=[(None, "automatic"), (True, "on"), (False, "off")],
        help_text="Decode large pictures in tiles, which needs less memory and changes them slightly.",
    )
    step_cache = models.BooleanField(
        default=False,
        help_text="Reuse what hardly changes from one step to the next: faster, and slightly other pictures. Only for "
        "Qwen-Image and its first editors.",
    )
    compile_repeated_blocks = models.BooleanField(
        default=False,
        help_text="Compile the blocks of the denoiser: faster steps on GPUs, after a minute or more for the first picture.",
    )
    float16_bytes = models.PositiveBigIntegerField(
        null=True,
        editable=False,
        help_text="Of the files that workers fetch that compute in float16. Empty: the same.",
    )
    component_parameters = models.JSONField(
        default=dict, editable=False, help_text="The number of parameters of each component. Empty: unknown."
    )
    load_seconds = models.FloatField(null=True, editable=False, help_text="Last measurement.")
    batching_verified = models.CharField(
        max_length=40, blank=True, editable=False, help_text="Fingerprint of what `manage.py verify_batching` approved."
    )

    objects: ClassVar[Any] = DiffusionModelQuerySet.as_manager()

    class Meta(RepositoryModel.Meta):
        verbose_name = "model"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="one_default_model")
        ]

    def clean(self) -> None:
        super().clean()
        if self.is_default and not self.enabled:
            raise ValidationError({"enabled": "The default model must be enabled."})
        if self.pool not in settings.POOLS:
            raise ValidationError({"pool": f"There is no such pool; choose one of {', '.join(settings.POOLS)}."})
        if self.offload == Offload.GROUP and self.quantization in PACKAGES:
            raise ValidationError(
                {"quantization": "Group offload needs weights that are not quantized: choose none, fp8 or automatic."}
            )
        traits = next((traits for family, traits in FAMILY_TRAITS.items() if family == self.family), None)
        if traits and self.step_cache and not traits.can_cache_steps:
            raise ValidationError({"step_cache": f"Models of the family {self.family} cannot cache steps."})
        if traits and self.compile_repeated_blocks and not traits.can_compile:
            raise ValidationError(
                {"compile_repeated_blocks": f"Models of the family {self.family} cannot be compiled."}
            )
        longest = bounds(ImageToImageParameters.model_fields["prompt"])["max_length"]
        if any(len(prompt) > longest for prompt in self.examples):
            raise ValidationError(
                {"example_prompts": f"A prompt has at most {longest} characters; shorten the longer one."}
            )

    @property
    def examples(self) -> list[str]:
        return [prompt for line in self.example_prompts.splitlines() if (prompt := line.strip())]

    def reference(self) -> ModelReference:
        memory = MemoryOptions(
            offload=Offload(self.offload) if self.offload else None,
            quantization=Quantization(self.quantization) if self.quantization else None,
            vae_tiling=self.vae_tiling,
            step_cache=self.step_cache,
            compile_repeated_blocks=self.compile_repeated_blocks,
        )
        return ModelReference(id=self.id, revision=self.revision, family=Family(self.family), memory=memory)

    @property
    def has_watermark(self) -> bool:
        """Return whether its results get a watermark: by the settings, and as staff say."""
        return bool(settings.WATERMARK) and self.watermark

    def may_batch(self, fingerprint: str) -> bool:
        """Return whether `verify_batching` found that batches give the same pictures as single runs.

        `fingerprint` is that of the model as a worker has loaded it, "" if it has not: see `generation.engine.fingerprint`.
        """
        return fingerprint != "" and self.batching_verified == fingerprint

    def limits(self) -> Limits:
        return Limits(num_inference_steps=self.max_steps, num_images_per_prompt=self.max_images, side=self.max_side)


class LoraQuerySet(models.QuerySet["Lora"]):
    def listed(self, user: Any) -> Self:
        """Return the enabled LoRAs with a base model that this user may use; these base models are prefetched."""
        bases = DiffusionModel.objects.allowed_to(user).filter(enabled=True)
        prefetched = models.Prefetch("base_models", bases)
        return self.filter(enabled=True, base_models__in=bases).distinct().prefetch_related(prefetched)

    def references(self, weights: dict[str, float], model: DiffusionModel) -> list[LoraReference]:
        """Return references to the LoRAs named in `weights`. Raises `RequestRefused` if one is not enabled for the model."""
        if not weights:
            return []
        loras = {lora.id: lora for lora in self.filter(id__in=list(weights), enabled=True, base_models=model)}
        for name in weights:
            if name not in loras:
                raise RequestRefused(
                    ErrorCode.UNKNOWN_LORA,
                    f"LoRA repository '{name}' not found among those that {model.id} may use.",
                )
        return [
            LoraReference(id=name, revision=loras[name].revision, weight_name=loras[name].weight_name, weight=weight)
            for name, weight in weights.items()
        ]


class Lora(RepositoryModel):
    """A LoRA, and the models it can be used with."""

    base_models = models.ManyToManyField(
        DiffusionModel, related_name="loras", help_text="Models it is compatible with."
    )

    objects: ClassVar[Any] = LoraQuerySet.as_manager()

    class Meta(RepositoryModel.Meta):
        verbose_name = "LoRA"
