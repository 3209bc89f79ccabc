"""`POST /v1/images/edits`, as OpenAI's clients send it: https://platform.openai.com/docs/api-reference/images."""

import re
from dataclasses import replace
from typing import Any, Literal

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from pydantic import BaseModel, Field, RootModel
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api import openapi_operations
from generation.api.errors import ErrorResponse
from generation.api.forms import Form, judged, posted_form
from generation.api.responses import ImagesResponse, PendingResponse
from generation.api.views import HeldAnswer, Submission
from generation.images.uploads import Upload, read_upload
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters, InvalidField, OutputFormat, missing
from generation.recipes import max_allowed, traits_of
from generation.responses import DryRun

_NAMES = {
    "n": "num_images_per_prompt",
    "model": "model_id",
    "output_compression": "output_quality",
}
"""OpenAI's names of what has another one here. All other fields of `/image-to-image` are taken too."""
_OTHERS = {"size", "stream", "user", "quality", "background", "input_fidelity", "partial_images", "moderation"}
_CARRIED = {"b64_json": "data", "url": "url"}
_SIZE = "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
_NOT_FINISHED = "not_finished"


class EditedImage(BaseModel):
    """One picture: `url` or `b64_json`, as `response_format` says."""

    url: str | None = None
    b64_json: str | None = None


class EditedImages(BaseModel):
    """The pictures of an edit."""

    created: int = Field(description="Seconds since 1970.")
    data: list[EditedImage]


class EditedImagesOrDryRun(RootModel[EditedImages | DryRun]):
    """Pictures, or with `dry_run` what would happen."""


class OpenAIProblem(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(description="invalid_request_error, rate_limit_error or server_error.")
    param: str | None
    code: str = Field(description="As in the table of all errors.")


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    error: OpenAIProblem


class EditForm(BaseModel):
    """The fields that OpenAI's clients send. The others of `/image-to-image` are taken too."""

    prompt: str = Field(min_length=1, max_length=4000, examples=["make it night"])
    image: bytes = Field(description="The picture, also as `image[]`. One, and no mask.")
    n: int = Field(1, ge=1, le=10)
    size: str = Field(
        "auto", pattern=_SIZE, description="`auto`, or a box such as 512x512 that the picture is made to fit into."
    )
    response_format: Literal["url", "b64_json"] = "url"
    output_format: OutputFormat = OutputFormat.PNG
    output_compression: int = Field(90, ge=1, le=100, description="Quality of jpeg and webp.")
    model: str = Field("", description="One of `GET /models`. Absent: the default model.")


_ERROR = {"error": {"message": "…", "type": "invalid_request_error", "param": "size", "code": "invalid_fields"}}
_PROBLEM = OpenApiResponse(OpenAIError, "What was wrong, in words.", [OpenApiExample("error", _ERROR)])

EDITS: dict[str, Any] = {
    "operation_id": "editImages",
    "tags": ["generate"],
    "summary": "Edit images, as OpenAI's clients ask for it",
    "request": {"multipart/form-data": EditForm},
    "responses": {
        200: OpenApiResponse(EditedImagesOrDryRun, "The pictures; with `dry_run` what would happen."),
        **dict.fromkeys((400, 401, 410, 413, 422, 429, 500, 503, 504), _PROBLEM),
    },
    "parameters": [
        *openapi_operations.IMAGE_TO_IMAGE["parameters"],
        openapi_operations.header("Preference-Applied", "What was heeded of `Prefer`.", [422], False),
        openapi_operations.header(
            "X-Generation-Id", "The generation that is not finished.", [422], False, format="uuid"
        ),
        openapi_operations.header("Location", "Its record.", [422], False, format="uri"),
    ],
}


class _OpenAIShape:
    """A mixin that turns the API's responses into those of OpenAI."""

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        match response:
            case PendingResponse():
                # OpenAI's clients send a request again after 408, 409, 429 or 5xx, which would make it all again.
                response.status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
                message = (
                    f"It is not finished yet, and nothing is lost: GET /generations/{response.generation_id} "
                    "tells when it is."
                )
                response.data = _error(response.status_code, message, _NOT_FINISHED)
            case ErrorResponse():
                if response.status_code in (status.HTTP_409_CONFLICT, status.HTTP_422_UNPROCESSABLE_ENTITY):
                    response.status_code = status.HTTP_400_BAD_REQUEST
                response.data = _error_of(response)
            case ImagesResponse():
                body = response.body
                response.data = {
                    "created": _created(body["id"]),
                    "data": [_picture(image["url"]) for image in body["images"]],
                }
        shaped: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return shaped


class ImageEdits(_OpenAIShape, Submission):
    @extend_schema(**EDITS)
    def post(self, request: Request) -> Response:
        """Make pictures from a picture and a prompt, and wait for them."""
        return self.accept(request, _read)


class HeldEdits(_OpenAIShape, HeldAnswer):
    """The same for whoever was held."""


def _read(request: Request) -> Form:
    texts, files = posted_form(request)
    fields = {_NAMES.get(name, name): str(text) for name, text in texts.items() if name not in _OTHERS}
    fields["response_format"] = _CARRIED.get(fields.get("response_format") or "url", "neither")
    problems: list[InvalidField] = []
    if fields["response_format"] == "neither":
        problems.append(InvalidField("response_format", "Send url or b64_json"))
        del fields["response_format"]
    if str(texts.get("stream", "")).lower() in ("true", "1"):
        problems.append(InvalidField("stream", "Not here; follow GET /generations/{id}/events instead"))
    if "mask" in files or texts.get("mask"):
        problems.append(InvalidField("mask", "Masks have no meaning to these models; say in words what to change"))
    picture = None
    try:
        box = _box(texts.get("size") or "auto")
        pictures = [one for name in ("image", "image[]") for one in files.getlist(name)]
        if len(pictures) != 1:
            raise InvalidField("image", "Send one picture" if pictures else missing("image")["msg"])
        picture = _within(read_upload(pictures[0], max_pixels=settings.MAX_UPLOAD_PIXELS), box)
    except InvalidField as error:
        problems.append(error)
    # PostgreSQL cannot be asked for NUL, which is refused below.
    if not fields.get("num_inference_steps") and "\0" not in fields.get("model_id", ""):
        fields["num_inference_steps"] = _best_steps(
            DiffusionModel.objects.allowed_to(request.user).usable(fields.get("model_id", ""))
        )
    return judged(fields, picture, problems)


def _best_steps(model: DiffusionModel) -> str:
    """The steps that a model does best with, no more than staff allow; empty where it knows no choice."""
    traits = traits_of(model.reference())
    if "num_inference_steps" in traits.forced:
        return ""
    default = ImageToImageParameters.model_fields["num_inference_steps"].default
    steps = int(traits.recommended.get("num_inference_steps", default))
    allowed = max_allowed("num_inference_steps", traits, model.limits())
    return str(steps if allowed is None else min(steps, allowed))


def _box(size: str) -> tuple[int, int] | None:
    if not re.match(_SIZE, size):
        raise InvalidField("size", "Send auto, or width and height in pixels such as 512x512")
    if size == "auto":
        return None
    width, height = size.split("x")
    return int(width), int(height)


def _within(upload: Upload, box: tuple[int, int] | None) -> Upload:
    """The picture, made smaller where it is larger than the box."""
    if box is None or (upload.size[0] <= box[0] and upload.size[1] <= box[1]):
        return upload
    smaller = upload.picture.copy()
    smaller.thumbnail(box)
    return replace(upload, picture=smaller, size=smaller.size)


def _created(generation_id: str) -> int:
    """The time in a UUID of version 7 (RFC 9562), whole seconds."""
    return int(generation_id.replace("-", "")[:12], 16) // 1000


def _picture(url: str) -> dict[str, str]:
    carried = url.startswith("data:")
    return {"b64_json": url.partition(",")[2]} if carried else {"url": url}


def _error_of(response: ErrorResponse) -> dict[str, Any]:
    """Return the error body; of a 422 list, all messages joined, and the first field as `param`."""
    if not response.invalid_fields:
        return _error(response.status_code, response.message, response.code)
    names = {ours: theirs for theirs, ours in _NAMES.items()}
    fields = [(names.get(item["loc"][-1], item["loc"][-1]), item["msg"]) for item in response.invalid_fields]
    message = "; ".join(f"{field}: {words}" for field, words in fields)
    return _error(response.status_code, message, response.code, fields[0][0])


def _error(status_code: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    kind = (
        "server_error" if status_code >= 500 else "rate_limit_error" if status_code == 429 else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
