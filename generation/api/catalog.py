"""What may be used here: models, with what each makes of a request's fields, and LoRAs."""

from drf_spectacular.utils import extend_schema
from redis import RedisError
from rest_framework.request import Request
from rest_framework.response import Response

from generation import capabilities
from generation.api import openapi_operations
from generation.api.views import JsonView
from generation.broker import workers
from generation.models import DiffusionModel, Lora
from generation.responses import (
    LoraDescription,
    LoraList,
    ModelList,
)


class Models(JsonView):
    @extend_schema(**openapi_operations.MODELS)
    def get(self, request: Request) -> Response:
        """The models that you may use, the default first, and what each makes of the fields of a request."""
        loaded = _loaded()
        found = [
            # Another pool's workers do not run it.
            capabilities.describe(row, None if loaded is None else (row.pool, row.pk) in loaded)
            for row in DiffusionModel.objects.allowed_to(request.user).listed()
        ]
        return Response(ModelList(models=found).model_dump(mode="json"))


class Loras(JsonView):
    @extend_schema(**openapi_operations.LORAS)
    def get(self, request: Request) -> Response:
        """The LoRAs that you may use, and with which models."""
        found = [
            LoraDescription(id=row.pk, models=[model.pk for model in row.base_models.all()])
            for row in Lora.objects.listed(request.user)
        ]
        return Response(LoraList(loras=found).model_dump(mode="json"))


def _loaded() -> set[tuple[str, str]] | None:
    """Pool and model wherever a worker that is ready has one loaded; None when Redis cannot be reached."""
    try:
        return {(worker.pool, model) for worker in workers.ready() for model in worker.models}
    except RedisError:
        return None
