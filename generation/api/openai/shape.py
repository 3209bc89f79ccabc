"""The shape that OpenAI's clients read: pictures and errors."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api.errors import ErrorResponse
from generation.api.responses import ImagesResponse, PendingResponse
from generation.parameters import FIELDS
from generation.responses import OpenAIError, openai_error_body

OUR_NAMES = {
    "n": "num_images_per_prompt",
    "model": "model_id",
    "output_compression": "output_quality",
}
"""OpenAI's names of fields that have another name here. All fields of `/image-to-image` are accepted as well."""

_ERROR = {"error": {"message": "…", "type": "invalid_request_error", "param": "size", "code": "invalid_fields"}}
PROBLEM = OpenApiResponse(OpenAIError, "The error as text.", [OpenApiExample("error", _ERROR)])

_NOT_FINISHED = "not_finished"


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
                    "warnings": body["warnings"],
                }
        result: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return result


def _created(generation_id: str) -> int:
    """Return the time of a UUID of version 7 (RFC 9562) in whole seconds since 1970."""
    return int(generation_id.replace("-", "")[:12], 16) // 1000


def _picture(url: str) -> dict[str, str]:
    return {"b64_json": url.partition(",")[2]} if url.startswith("data:") else {"url": url}


def _error_body(response: ErrorResponse) -> dict[str, Any]:
    """Return the error body; for a list of fields, all messages joined, with the first field as `param`."""
    openai_names = {ours: theirs for theirs, ours in OUR_NAMES.items()}
    if not response.invalid_fields:
        field = FIELDS.get(response.error_code)
        param = openai_names.get(field, field) if field else None
        return openai_error_body(response.status_code, response.message, response.error_code, param)
    fields = [(openai_names.get(item["loc"][-1], item["loc"][-1]), item["msg"]) for item in response.invalid_fields]
    message = "; ".join(f"{field}: {text}" for field, text in fields)
    return openai_error_body(response.status_code, message, response.error_code, fields[0][0])
