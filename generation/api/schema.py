"""The OpenAPI document: component names and the operation id are those of Livepeer's published one."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from generation.parameters import (
    GenerationRecord,
    HTTPError,
    HTTPValidationError,
    ImageResponse,
    ImageToImageParameters,
)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "HTTPBearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


def _body() -> dict[str, Any]:
    body = ImageToImageParameters.model_json_schema()
    body["title"] = "Body_genImageToImage"
    body["properties"]["image"] = {
        "type": "string",
        "format": "binary",
        "description": "The picture: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF, judged by its bytes.",
    }
    body["required"] = ["prompt", "image"]
    return body


IMAGE_TO_IMAGE: dict[str, Any] = {
    "operation_id": "genImageToImage",
    "tags": ["generate"],
    "summary": "Image To Image",
    "request": {"multipart/form-data": _body()},
    "responses": {
        200: ImageResponse,
        202: GenerationRecord,
        400: HTTPError,
        401: HTTPError,
        413: HTTPError,
        422: HTTPValidationError,
        500: HTTPError,
        503: HTTPError,
    },
    "extensions": {"x-speakeasy-name-override": "imageToImage"},
}

GENERATION: dict[str, Any] = {
    "operation_id": "getGeneration",
    "tags": ["generations"],
    "summary": "One generation",
    "responses": {200: GenerationRecord, 401: HTTPError, 404: HTTPError},
}
