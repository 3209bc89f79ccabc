"""What may be used here: models, with what each makes of a request's fields, and LoRAs."""

from drf_spectacular.utils import extend_schema
from redis import RedisError
from rest_framework.request import Request
from rest_framework.response import Response

from generation import doorbell
from generation.answers import LoraDescription, LoraList, ModelDescription, ModelList, ParameterDescription, Sizes
from generation.api import operations
from generation.api.views import JsonView
from generation.models import DiffusionModel, Lora
from generation.parameters import ImageToImageParameters, bounds
from generation.recipes import Limits, Traits, most, traits_of, within

DESCRIBED = (
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
"""The fields of a request that a model may treat in its own way, or that staff may limit on it."""


class Models(JsonView):
    @extend_schema(**operations.MODELS)
    def get(self, request: Request) -> Response:
        """The models that you may use, the default first, and what each makes of the fields of a request."""
        loaded = _loaded()
        found = [_model(row, loaded) for row in DiffusionModel.objects.listed()]
        return Response(ModelList(models=found).model_dump(mode="json"))


class Loras(JsonView):
    @extend_schema(**operations.LORAS)
    def get(self, request: Request) -> Response:
        """The LoRAs that you may use, and with which models."""
        found = [
            LoraDescription(id=row.pk, models=[model.pk for model in row.base_models.all()])
            for row in Lora.objects.listed()
        ]
        return Response(LoraList(loras=found).model_dump(mode="json"))


def _loaded() -> set[tuple[str, str]] | None:
    """Pool and model wherever a worker that is ready has one loaded; None when Redis cannot be reached."""
    try:
        return {(worker.pool, model) for worker in doorbell.at_work() for model in worker.models}
    except RedisError:
        return None


def _model(row: DiffusionModel, loaded: set[tuple[str, str]] | None) -> ModelDescription:
    limits = row.limits()
    traits = within(traits_of(row.reference()), limits)
    loras = [lora.pk for lora in row.loras.all()]
    if not loras:
        traits = traits.model_copy(update={"without_effect": traits.without_effect | {"loras"}})
    return ModelDescription(
        id=row.pk,
        kind=row.reference().family,
        is_default=row.is_default,
        # Another pool's workers do not run it.
        is_warm=None if loaded is None else (row.pool, row.pk) in loaded,
        cost_weight=row.cost_weight,
        sizes=Sizes(min_side=traits.min_side, max_side=traits.max_side),
        parameters={name: _parameter(name, traits, limits) for name in DESCRIBED},
        loras=loras,
    )


def _parameter(name: str, traits: Traits, limits: Limits) -> ParameterDescription:
    field = ImageToImageParameters.model_fields[name]
    bound = bounds(field)
    maximum = most(name, traits, limits) or bound.get("le")
    recommended = traits.recommended.get(name)
    if recommended is not None and maximum is not None:
        recommended = min(recommended, maximum)
    return ParameterDescription(
        has_effect=name not in traits.without_effect,
        default=field.default,
        minimum=bound.get("ge"),
        maximum=maximum,
        recommended=recommended,
        forced=traits.forced.get(name),
    )
