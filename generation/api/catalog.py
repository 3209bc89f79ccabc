"""`GET /models` and `GET /loras`: what requests may name, and how each model treats the request fields."""

from drf_spectacular.utils import extend_schema
from redis import RedisError
from rest_framework.request import Request
from rest_framework.response import Response

from generation import capabilities
from generation.api import openapi_operations
from generation.api.views import JsonView
from generation.broker import workers
from generation.broker.workers import WorkerInfo
from generation.models import DiffusionModel, Lora
from generation.responses import LoraDescription, LoraList, ModelList


class Models(JsonView):
    @extend_schema(**openapi_operations.MODELS)
    def get(self, request: Request) -> Response:
        """List the models that you may use, the default first, and how each treats the request fields."""
        readiness = _Readiness()
        models = [
            capabilities.describe(row, readiness.is_warm(row), readiness.is_downloaded(row))
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


class _Readiness:
    """What the workers have in memory and on disk. Only workers of a model's own pool run it."""

    def __init__(self) -> None:
        self._workers: list[WorkerInfo] | None
        try:
            self._workers = workers.ready()
        except RedisError:
            self._workers = None

    def is_warm(self, model: DiffusionModel) -> bool | None:
        if self._workers is None:
            return None
        return any(info.pool == model.pool and model.pk in info.models for info in self._workers)

    def is_downloaded(self, model: DiffusionModel) -> bool | None:
        pool = [info for info in self._workers or [] if info.pool == model.pool]
        return any(model.pk not in info.missing for info in pool) if pool else None
