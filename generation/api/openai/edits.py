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
from generation.api.form_parts import form_parts
from generation.api.forms import Form, validate
from generation.api.responses import ImagesResponse, PendingResponse
from generation.api.views import HeldAnswer, Submission
from generation.images.uploads import Upload, read_upload
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters, InvalidField, OutputFormat, missing
from generation.recipes import max_allowed, traits_of
from generation.responses import DryRun, OpenAIError, openai_error_body

_NAMES = {
    "n": "num_images_per_prompt",
    "model": "model_id",
    "output_compression": "output_quality",
}
"""OpenAI's names of fields that have another name here. All fields of `/image-to-image` are accepted as well."""
_OPENAI_ONLY = {"size", "stream", "user", "quality", "background", "input_fidelity", "partial_images", "moderation"}
_RESPONSE_FORMATS = {"b64_json": "data", "url": "url"}
_SIZE = "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
_NOT_FINISHED = "not_finished"


class EditedImage(BaseModel):
    """A picture, as `url` or `b64_json`: see `response_format`."""

    url: str | None = None
    b64_json: str | None = None


class EditedImages(BaseModel):
    """The pictures of an edit."""

    created: int = Field(description="Seconds since 1970.")
    data: list[EditedImage]


class EditedImagesOrDryRun(RootModel[EditedImages | DryRun]):
    """Pictures, or with `dry_run` an estimate."""


class EditForm(BaseModel):
    """The fields that OpenAI's clients send. All fields of `/image-to-image` are accepted as well."""

    prompt: str = Field(min_length=1, max_length=4000, examples=["make it night"])
    image: bytes = Field(description="One picture, without a mask. It may also be called `image[]`.")
    n: int = Field(1, ge=1, le=10)
    size: str = Field(
        "auto", pattern=_SIZE, description="`auto`, or width and height such as 512x512; the picture is fitted into it."
    )
    response_format: Literal["url", "b64_json"] = "url"
    output_format: OutputFormat = OutputFormat.PNG
    output_compression: int = Field(90, ge=1, le=100, description="Quality of jpeg and webp.")
    model: str = Field("", description="A model of `GET /models`. Default: the default model.")


_ERROR = {"error": {"message": "…", "type": "invalid_request_error", "param": "size", "code": "invalid_fields"}}
PROBLEM = OpenApiResponse(OpenAIError, "The error as text.", [OpenApiExample("error", _ERROR)])

EDITS: dict[str, Any] = {
    "operation_id": "editImages",
    "tags": ["generate"],
    "summary": "Edit images, for OpenAI's clients",
    "request": {"multipart/form-data": EditForm},
    "responses": {
        200: OpenApiResponse(EditedImagesOrDryRun, "The pictures, or with `dry_run` an estimate."),
        **dict.fromkeys((400, 401, 410, 413, 422, 429, 500, 503, 504), PROBLEM),
    },
    "parameters": [
        *openapi_operations.IMAGE_TO_IMAGE["parameters"],
        openapi_operations.header("Preference-Applied", "The applied preferences of `Prefer`.", [422], False),
        openapi_operations.header(
            "X-Generation-Id", "The generation that is not finished.", [422], False, format="uuid"
        ),
        openapi_operations.header("Location", "Its record.", [422], False, format="uri"),
    ],
}


class OpenAIShape:
    """A mixin that converts the API's responses to OpenAI's."""

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        match response:
            case PendingResponse():
                # OpenAI's clients retry after 408, 409, 429 or 5xx, which would generate the pictures again.
                response.status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
                message = (
                    f"The generation is not finished yet and continues; see GET /generations/{response.generation_id}."
                )
                response.data = openai_error_body(response.status_code, message, _NOT_FINISHED)
                response["X-Should-Retry"] = "false"
            case ErrorResponse():
                if response.status_code in (status.HTTP_409_CONFLICT, status.HTTP_422_UNPROCESSABLE_ENTITY):
                    response.status_code = status.HTTP_400_BAD_REQUEST
                response.data = _error_body(response)
            case ImagesResponse():
                body = response.body
                response.data = {
                    "created": _created(body["id"]),
                    "data": [_picture(image["url"]) for image in body["images"]],
                }
        result: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return result


class ImageEdits(OpenAIShape, Submission):
    @extend_schema(**EDITS)
    def post(self, request: Request) -> Response:
        """Generate pictures from a picture and a prompt, and wait for them."""
        return self.accept(request, _read_form)


class HeldEdits(OpenAIShape, HeldAnswer):
    """The answer to a client of `ImageEdits` that the ASGI layer holds."""


def _read_form(request: Request) -> Form:
    texts, files, _ = form_parts(request)
    fields = {_NAMES.get(name, name): str(text) for name, text in texts.items() if name not in _OPENAI_ONLY}
    errors: list[InvalidField] = []
    response_format = fields.pop("response_format", "") or "url"
    if response_format in _RESPONSE_FORMATS:
        fields["response_format"] = _RESPONSE_FORMATS[response_format]
    else:
        errors.append(InvalidField("response_format", "Send url or b64_json"))
    if str(texts.get("stream", "")).lower() in ("true", "1"):
        errors.append(InvalidField("stream", "Not supported; follow GET /generations/{id}/events instead"))
    if "mask" in files or texts.get("mask"):
        errors.append(InvalidField("mask", "Masks are not supported; describe in the prompt what to change"))
    picture = None
    try:
        box = _box(texts.get("size") or "auto")
        pictures = [file for name in ("image", "image[]") for file in files.getlist(name)]
        if len(pictures) != 1:
            raise InvalidField("image", "Send one picture" if pictures else missing("image")["msg"])
        picture = _fit(read_upload(pictures[0], max_pixels=settings.MAX_UPLOAD_PIXELS), box)
    except InvalidField as error:
        errors.append(error)
    # PostgreSQL cannot compare with NUL; `validate` refuses it.
    if not fields.get("num_inference_steps") and "\0" not in fields.get("model_id", ""):
        fields["num_inference_steps"] = _recommended_steps(
            DiffusionModel.objects.allowed_to(request.user).usable(fields.get("model_id", ""))
        )
    return validate(fields, picture, errors)


def _recommended_steps(model: DiffusionModel) -> str:
    """Return the recommended steps of a model, at most what staff allow; empty if its steps are forced."""
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


def _fit(upload: Upload, box: tuple[int, int] | None) -> Upload:
    """Return the upload, reduced to fit into the box of width and height in pixels if there is one."""
    if box is None or (upload.size[0] <= box[0] and upload.size[1] <= box[1]):
        return upload
    picture = upload.picture.copy()
    picture.thumbnail(box)
    return replace(upload, picture=picture, size=picture.size)


def _created(generation_id: str) -> int:
    """Return the time of a UUID of version 7 (RFC 9562) in whole seconds since 1970."""
    return int(generation_id.replace("-", "")[:12], 16) // 1000


def _picture(url: str) -> dict[str, str]:
    return {"b64_json": url.partition(",")[2]} if url.startswith("data:") else {"url": url}


def _error_body(response: ErrorResponse) -> dict[str, Any]:
    """Return the error body; for a 422 list, all messages joined, with the first field as `param`."""
    if not response.invalid_fields:
        return openai_error_body(response.status_code, response.message, response.code)
    openai_names = {ours: theirs for theirs, ours in _NAMES.items()}
    fields = [(openai_names.get(item["loc"][-1], item["loc"][-1]), item["msg"]) for item in response.invalid_fields]
    message = "; ".join(f"{field}: {text}" for field, text in fields)
    return openai_error_body(response.status_code, message, response.code, fields[0][0])
