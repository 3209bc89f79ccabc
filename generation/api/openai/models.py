"""`GET /v1/models`, as OpenAI's clients read it: https://platform.openai.com/docs/api-reference/models."""

from typing import Any, Literal

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api import openapi_operations
from generation.api.openai.shape import PROBLEM, OpenAIShape
from generation.api.views import JsonView
from generation.models import DiffusionModel, ModelAlias
from generation.parameters import ErrorCode, InvalidField

_MAX_NAMES = 20


class OpenAIModel(BaseModel):
    """A model, or an alias of one."""

    id: str = Field(description="The value for `model`.")
    object: Literal["model"] = "model"
    created: int = Field(0, description="Always 0: when the model was made is not known here.")
    owned_by: str = Field(description="The first part of the name of the model that runs.")


class OpenAIModelList(BaseModel):
    """What you may send as `model`: the models, the default first, then the aliases."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


_EXAMPLE = {"id": "dreamsite/tiny-edit", "object": "model", "created": 0, "owned_by": "dreamsite"}
_OPERATION: dict[str, Any] = {"tags": ["models"], "parameters": openapi_operations.MODELS["parameters"]}
_PROBLEMS = dict.fromkeys((401, 429, 500, 503), PROBLEM)


class Models(OpenAIShape, JsonView):
    @extend_schema(
        **_OPERATION,
        operation_id="listOpenAIModels",
        summary="Models, for OpenAI's clients",
        responses={
            200: OpenApiResponse(
                OpenAIModelList, "The models.", [OpenApiExample("bundled", {"object": "list", "data": [_EXAMPLE]})]
            ),
            **_PROBLEMS,
        },
    )
    def get(self, request: Request) -> Response:
        """List what you may send as `model`: the models, the default first, then the aliases."""
        models = ModelAlias.objects.named_models(request.user)
        return Response(OpenAIModelList(data=[_describe(*item) for item in models.items()]).model_dump())


class Model(OpenAIShape, JsonView):
    @extend_schema(
        tags=_OPERATION["tags"],
        parameters=[
            OpenApiParameter("model_id", str, OpenApiParameter.PATH, description="Its slash may be sent as %2F."),
            *_OPERATION["parameters"],
        ],
        operation_id="retrieveOpenAIModel",
        summary="A model, for OpenAI's clients",
        responses={
            200: OpenApiResponse(OpenAIModel, "The model.", [OpenApiExample("bundled", _EXAMPLE)]),
            404: PROBLEM,
            **_PROBLEMS,
        },
    )
    def get(self, request: Request, model_id: str) -> Response:
        """Describe one model or alias."""
        models = ModelAlias.objects.named_models(request.user)
        if model_id not in models:
            raise InvalidField("model", _no_such_model(models), place="path", code=ErrorCode.NOT_FOUND)
        return Response(_describe(model_id, models[model_id]).model_dump())


def choose_model(user: Any, name: str) -> DiffusionModel:
    """Return the model of this name or alias, the default for "". Raises `InvalidField` with all names that there are."""
    models: dict[str, DiffusionModel] = ModelAlias.objects.named_models(user)
    if name in models:
        return models[name]
    if not name:
        default: DiffusionModel = DiffusionModel.objects.allowed_to(user).usable("")
        return default
    raise InvalidField("model", _no_such_model(models), code=ErrorCode.UNKNOWN_MODEL)


def _describe(name: str, model: DiffusionModel) -> OpenAIModel:
    return OpenAIModel(id=name, owned_by=model.pk.partition("/")[0])


def _no_such_model(models: dict[str, DiffusionModel]) -> str:
    names = list(models)
    more = f" and {len(names) - _MAX_NAMES} more, see GET /v1/models" if len(names) > _MAX_NAMES else ""
    return f"There is no such model here. There are {', '.join(names[:_MAX_NAMES])}{more}"
