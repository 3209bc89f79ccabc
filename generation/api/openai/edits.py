"""`POST /v1/images/edits`, as OpenAI's clients send it: https://platform.openai.com/docs/api-reference/images."""

from typing import Any, Literal

from drf_spectacular.utils import OpenApiResponse, extend_schema
from pydantic import BaseModel, Field, RootModel
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api import openapi_operations
from generation.api.openai.edit_form import SIZE, read_edit
from generation.api.openai.shape import PROBLEM, OpenAIShape
from generation.api.views import HeldAnswer, Submission
from generation.parameters import OutputFormat
from generation.responses import DryRun


class EditedImage(BaseModel):
    """A picture, as `url` or `b64_json`: see `response_format`."""

    url: str | None = None
    b64_json: str | None = None


class EditedImages(BaseModel):
    """The pictures of an edit. `warnings` is an addition to OpenAI's API."""

    created: int = Field(description="Seconds since 1970.")
    data: list[EditedImage]
    warnings: list[str] = Field(description="What was changed or had no effect.")


class EditedImagesOrDryRun(RootModel[EditedImages | DryRun]):
    """Pictures, or with `dry_run` an estimate."""


class _EditFields(BaseModel):
    prompt: str = Field(min_length=1, max_length=4000, examples=["make it night"])
    n: int = Field(1, ge=1, le=10)
    size: str = Field(
        "auto", pattern=SIZE, description="`auto`, or width and height such as 512x512; the picture is fitted into it."
    )
    response_format: Literal["url", "b64_json"] = "b64_json"
    output_format: OutputFormat = OutputFormat.PNG
    output_compression: int = Field(90, ge=0, le=100, description="Quality of jpeg and webp.")
    background: Literal["auto", "opaque"] = Field("auto", description="Results are opaque.")
    model: str = Field("", description="A model or alias of `GET /v1/models`. Default: the default model.")


class EditForm(_EditFields):
    """The fields that OpenAI's clients send. All fields of `/image-to-image` are accepted as well."""

    image: bytes = Field(
        description="The picture. With several, as `image[]`, the first changes, and the model reads the others, if it can."
    )
    mask: bytes = Field(
        b"", description="What may change is transparent, or in a picture without transparent parts white."
    )


class PictureReference(BaseModel):
    """Where a picture is."""

    image_url: str = Field(
        max_length=20_971_520,
        description="A data URL, or if the server allows it, the http or https address of a picture.",
        examples=["data:image/png;base64,iVBORw0KGgo="],
    )


class EditBody(_EditFields):
    """The same as JSON."""

    images: list[PictureReference] = Field(
        min_length=1, description="The picture, and further ones that the model reads, if it can, as data URLs."
    )
    mask: PictureReference | None = Field(None, description="What may change is transparent; as a data URL.")


EDITS: dict[str, Any] = {
    "operation_id": "editImages",
    "tags": ["generate"],
    "summary": "Edit images, for OpenAI's clients",
    "request": {"multipart/form-data": EditForm, "application/json": EditBody},
    "responses": {
        200: OpenApiResponse(EditedImagesOrDryRun, "The pictures, or with `dry_run` an estimate."),
        **dict.fromkeys((400, 401, 408, 410, 413, 415, 422, 429, 431, 500, 503, 504), PROBLEM),
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


class ImageEdits(OpenAIShape, Submission):
    @extend_schema(**EDITS)
    def post(self, request: Request) -> Response:
        """Generate pictures from a picture and a prompt, and wait for them."""
        return self.accept(request, read_edit)


class HeldEdits(OpenAIShape, HeldAnswer):
    """The answer to a client of `ImageEdits` that the ASGI layer holds."""
