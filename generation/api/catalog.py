"""`GET /models` and `GET /loras`: what requests may name, and how each model treats the request fields."""

from drf_spectacular.utils import extend_schema
from redis import RedisError
from rest_framework.request import Request
from rest_framework.response import Response

from generation import capabilities
from generation.api import openapi_operations
from generation.api.views import JsonView
from generation.broker import workers
from generation.models import DiffusionModel, Lora
from generation.responses import LoraDescription, LoraList, ModelList


class Models(JsonView):
    @extend_schema(**openapi_operations.MODELS)
    def get(self, request: Request) -> Response:
        """List the models that you may use, the default first, and how each treats the request fields."""
        warm = _warm_models()
        models = [
            # Only workers of the model's own pool run it.
            capabilities.describe(row, None if warm is None else (row.pool, row.pk) in warm)
            for row in DiffusionModel.objects.allowed_to(request.user).listed()
        ]
        return Response(ModelList(models=models).model_dump(mode="json"))


class Loras(JsonView):
    @extend_schema(**openapi_operations.LORAS)
    def get(self, request: Request) -> Response:
        """List the LoRAs that you may use, and the models that each works with."""
        loras = [
            LoraDescription(id=row.pk, models=[model.pk for model in row.base_models.all()])
            for row in Lora.objects.listed(request.user)
        ]
        return Response(LoraList(loras=loras).model_dump(mode="json"))


def _warm_models() -> set[tuple[str, str]] | None:
    """Return the pairs of pool and model that a ready worker has loaded; None if Redis cannot be reached."""
    try:
        return {(worker.pool, model) for worker in workers.ready() for model in worker.models}
    except RedisError:
        return None
