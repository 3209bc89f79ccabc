"""Model capabilities: which request fields have an effect, their bounds, and recommended values."""

from django.conf import settings

from generation.family_traits import Traits
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters, bounds
from generation.recipes import Limits, clamp, max_allowed, traits_of
from generation.responses import ModelDescription, ParameterDescription, Sizes

MODEL_FIELDS = (
    "loras",
    "strength",
    "guidance_scale",
    "image_guidance_scale",
    "negative_prompt",
    "safety_check",
    "seed",
    "num_inference_steps",
    "num_images_per_prompt",
)
"""The request fields whose effect or bounds depend on the model."""


def describe(row: DiffusionModel, is_warm: bool | None = None, is_downloaded: bool | None = None) -> ModelDescription:
    """Describe a model of `DiffusionModel.objects.listed()`.

    `is_warm` and `is_downloaded` are whether a worker has the model loaded, and on its disk; None if unknown.
    """
    limits = row.limits()
    traits = clamp(traits_of(row.reference()), limits)
    loras = [lora.pk for lora in row.loras.all()]
    if not loras:
        traits = traits.model_copy(update={"without_effect": traits.without_effect | {"loras"}})
    return ModelDescription(
        id=row.pk,
        kind=row.reference().family,
        is_default=row.is_default,
        is_warm=is_warm,
        is_downloaded=is_downloaded,
        cost_weight=row.cost_weight,
        sizes=Sizes(min_side=traits.min_side, max_side=traits.max_side, max_pixels=traits.max_pixels),
        needs_mask=traits.needs_mask,
        max_images=1 + traits.max_references,
        parameters={name: _parameter(name, traits, limits) for name in MODEL_FIELDS},
        loras=loras,
        examples=row.examples,
    )


def _parameter(name: str, traits: Traits, limits: Limits) -> ParameterDescription:
    field = ImageToImageParameters.model_fields[name]
    bound = bounds(field)
    maximum = max_allowed(name, traits, limits) or bound.get("le")
    recommended = traits.recommended.get(name)
    is_required = name == "safety_check" and settings.SAFETY_CHECK == "required"
    if recommended is not None and maximum is not None:
        recommended = min(recommended, maximum)
    return ParameterDescription(
        has_effect=name not in traits.without_effect and not is_required,
        default=field.default,
        minimum=bound.get("ge"),
        maximum=maximum,
        recommended=recommended,
        forced=True if is_required else traits.forced.get(name),
    )
