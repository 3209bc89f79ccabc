"""The operations of the OpenAPI document: bodies, statuses, headers."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from pydantic import BaseModel

from generation.api import openapi_examples as examples
from generation.api.openapi import Body_genImageToImage, Body_verifyPicture
from generation.filters import GenerationFilters
from generation.parameters import MESSAGES, ErrorCode
from generation.responses import (
    GenerationPage,
    GenerationRecord,
    HTTPError,
    HTTPValidationError,
    ImageResponseOrDryRun,
    LoraList,
    ModelList,
    Verification,
)


def problem_response(summary: str, message: str, *codes: ErrorCode) -> OpenApiResponse:
    """Describe an `HTTPError`: all codes of this status, and a real response with the first of them as example."""
    meanings = "\n".join(f"- `{code.value}`: {code.meaning}" for code in codes)
    example = OpenApiExample(codes[0].value, {"detail": {"msg": message, "code": codes[0].value}})
    return OpenApiResponse(HTTPError, f"{summary}\n\n{meanings}", [example])


def header(name: str, description: str, statuses: list[int], required: bool = True, **schema: str) -> OpenApiParameter:
    """Describe a response header of these statuses."""
    return OpenApiParameter(
        name,
        {"type": "string", **schema},
        OpenApiParameter.HEADER,
        required=required,
        description=description,
        response=statuses,
    )


def query(model: type[BaseModel]) -> list[OpenApiParameter]:
    """Describe the fields of a model as query parameters, none of them required."""
    parameters = []
    for name, field in model.model_json_schema()["properties"].items():
        description = field.pop("description")
        if "anyOf" in field:
            # Queries have no null: an optional field can be left out, and has no default to document.
            field |= field.pop("anyOf")[0]
            del field["default"]
        parameters.append(OpenApiParameter(name, field, OpenApiParameter.QUERY, description=description))
    return parameters


_INVALID_TOKEN = problem_response(
    "The token is missing or not valid.", "Invalid bearer token.", ErrorCode.INVALID_TOKEN
)
_TOO_MANY_REQUESTS = problem_response(
    "Send fewer requests.",
    "You have sent more than 50 requests a second; try again in 1 second.",
    ErrorCode.TOO_MANY_REQUESTS,
)
_AUTHENTICATE = header("WWW-Authenticate", "`Bearer`", [401], const="Bearer")
_RETRY_AFTER = "Seconds until the same request may succeed."
_COMMON_HEADERS = [
    _AUTHENTICATE,
    header("Retry-After", _RETRY_AFTER, [429, 503], type="integer"),
    header("Retry-After", _RETRY_AFTER, [500], False, type="integer"),
]

IMAGE_TO_IMAGE: dict[str, Any] = {
    "operation_id": "genImageToImage",
    "tags": ["generate"],
    "summary": "Image To Image",
    "request": {"multipart/form-data": Body_genImageToImage},
    "responses": {
        200: OpenApiResponse(
            ImageResponseOrDryRun,
            "The pictures, or with `dry_run` an estimate.",
            [OpenApiExample("made", examples.IMAGES)],
        ),
        202: OpenApiResponse(
            GenerationRecord,
            "Accepted, but not finished within the time that the server waits. It continues: poll `Location` until "
            "`state` is `succeeded`, `failed` or `canceled`.",
            [OpenApiExample("running", examples.RUNNING)],
        ),
        400: problem_response(
            "The request cannot be accepted.",
            "There is no such model here; leave model_id empty for the default model.",
            ErrorCode.UNKNOWN_MODEL,
            ErrorCode.INVALID_LORAS,
            ErrorCode.UNKNOWN_LORA,
            ErrorCode.LORA_FAILED,
            ErrorCode.IMAGE_URL_REFUSED,
            ErrorCode.MALFORMED_REQUEST,
        ),
        401: _INVALID_TOKEN,
        408: problem_response(
            "The request took too long to arrive.",
            "The request did not arrive in time; send at least 4 kB a second.",
            ErrorCode.REQUEST_TIMEOUT,
        ),
        409: problem_response(
            "It was canceled while it was queued or running.", "It was canceled.", ErrorCode.CANCELED
        ),
        410: problem_response("It has been deleted.", MESSAGES[ErrorCode.DELETED], ErrorCode.DELETED),
        413: problem_response(
            "The request is too large.",
            "The request is over the limit of 20,971,520 bytes; send a smaller picture.",
            ErrorCode.UPLOAD_TOO_LARGE,
        ),
        415: problem_response(
            "The body is compressed in a way that is not supported.",
            "Content-Encoding br is not supported; send the body as it is, or compressed by gzip or deflate.",
            ErrorCode.UNSUPPORTED_ENCODING,
        ),
        422: OpenApiResponse(
            HTTPValidationError,
            "Fields are missing or wrong; all of them are listed. `key_reused`: the `Idempotency-Key` was used with "
            "another request.",
            [
                OpenApiExample(
                    "wrong_fields", {"detail": examples.INVALID_FIELDS, "code": ErrorCode.INVALID_FIELDS.value}
                )
            ],
        ),
        429: problem_response(
            "You have reached a limit; the request was not accepted.",
            "You have sent 60 requests within a minute, the maximum; try again in 21 seconds.",
            ErrorCode.TOO_MANY_REQUESTS,
            ErrorCode.TOO_MANY_QUEUED,
            ErrorCode.TOO_MANY_UPLOADS,
            ErrorCode.COST_EXCEEDED,
            ErrorCode.STORAGE_EXCEEDED,
            ErrorCode.TOO_MANY_CONNECTIONS,
        ),
        431: problem_response(
            "The headers are too large.",
            "Request line and headers may have 32 kB in all; send fewer cookies and shorter values.",
            ErrorCode.HEADERS_TOO_LARGE,
        ),
        500: problem_response(
            "The generation failed.",
            "Image-to-image pipeline error.",
            ErrorCode.INTERNAL,
            ErrorCode.MODEL_FAILED,
            ErrorCode.OUT_OF_MEMORY,
            ErrorCode.MODEL_TOO_LARGE,
            ErrorCode.STORAGE_FAILED,
            ErrorCode.WORKER_LOST,
        ),
        503: problem_response(
            "The request was not accepted; try again later.",
            "The service cannot take requests now; try again in 5 seconds.",
            ErrorCode.UNAVAILABLE,
            ErrorCode.MODEL_NOT_DOWNLOADED,
            ErrorCode.QUEUE_FULL,
            ErrorCode.UPLOADS_FULL,
            ErrorCode.DISK_FULL,
        ),
        504: problem_response(
            "The deadline has passed.",
            "No worker was free before its deadline; try again later or allow more time.",
            ErrorCode.DEADLINE_BEFORE_START,
            ErrorCode.DEADLINE,
        ),
    },
    "parameters": [
        OpenApiParameter(
            "Cancel-After",
            {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,3})?[smh]$", "examples": ["90s", "2m"]},
            OpenApiParameter.HEADER,
            description="Cancel the generation if it has not ended after this time: a number and s, m or h, up to 7 days.",
        ),
        OpenApiParameter(
            "Prefer",
            {"type": "string", "examples": ["respond-async", "wait=10", "cancel-on-disconnect"]},
            OpenApiParameter.HEADER,
            description="`respond-async`: answer at once with 202. `wait=10`: answer within ten seconds. "
            "`cancel-on-disconnect`: cancel the generation if the client disconnects; without it, it continues.",
        ),
        OpenApiParameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            OpenApiParameter.HEADER,
            description="Identifies this request for 24 hours: a retry with the same key gets the same generation.",
        ),
        OpenApiParameter(
            "Cache-Control",
            {"type": "string", "examples": ["no-cache"]},
            OpenApiParameter.HEADER,
            description="`no-cache` makes the pictures although those of an earlier request of yours are the same.",
        ),
        header(
            "Preference-Applied",
            "The applied preferences of `Prefer`.",
            [200, 202, 400, 409, 410, 500, 503, 504],
            False,
        ),
        header("X-Generation-Id", "The generation, as in `id`. Absent with `dry_run`.", [200], False, format="uuid"),
        header("X-Generation-Id", "The generation, as in `id`.", [202], format="uuid"),
        header(
            "X-Generation-Id",
            "The generation, if the request was accepted.",
            [400, 409, 410, 500, 503, 504],
            False,
            format="uuid",
        ),
        header("Location", "The record of the generation.", [202], format="uri"),
        header("Accept-Encoding", "How bodies may be compressed.", [415]),
        header("Retry-After", _RETRY_AFTER, [408, 429, 503], type="integer"),
        header("Retry-After", _RETRY_AFTER, [500, 504], False, type="integer"),
        header("RateLimit-Limit", "The limit that was reached.", [429]),
        header("RateLimit-Remaining", "What is left of the limit.", [429]),
        header("RateLimit-Reset", "Seconds until more is left.", [429], type="integer"),
        _AUTHENTICATE,
    ],
    "extensions": {"x-speakeasy-name-override": "imageToImage"},
}

_DELETED = problem_response("It is deleted, or in its user's trash.", MESSAGES[ErrorCode.DELETED], ErrorCode.DELETED)
_UNCHANGED = OpenApiResponse(None, "Unchanged since the response with the `ETag` in `If-None-Match`.")
_ETAGS = [
    OpenApiParameter(
        "If-None-Match",
        {"type": "string", "examples": ['"9c1f0a52c9a1d1ee27f5a4f7b8c2d3e4"']},
        OpenApiParameter.HEADER,
        description="The `ETag` of an earlier response. If nothing has changed, the response is 304 without a body.",
    ),
    header("ETag", "A strong validator of the body.", [200, 304]),
]

GENERATION: dict[str, Any] = {
    "operation_id": "getGeneration",
    "tags": ["generations"],
    "summary": "One generation",
    "responses": {
        200: OpenApiResponse(
            GenerationRecord, "The record, with fresh URLs.", [OpenApiExample("succeeded", examples.RECORD)]
        ),
        304: _UNCHANGED,
        401: _INVALID_TOKEN,
        404: problem_response(
            "It does not exist or is not yours.", "Not found: it does not exist or is not yours.", ErrorCode.NOT_FOUND
        ),
        410: _DELETED,
        429: _TOO_MANY_REQUESTS,
        500: problem_response("An unexpected error.", "Image-to-image pipeline error.", ErrorCode.INTERNAL),
        503: problem_response(
            "Try again.", "The service cannot take requests now; try again in 5 seconds.", ErrorCode.UNAVAILABLE
        ),
    },
    "parameters": [*_ETAGS, *_COMMON_HEADERS],
}

GENERATIONS: dict[str, Any] = {
    "operation_id": "listGenerations",
    "tags": ["generations"],
    "summary": "Your generations",
    "responses": {
        200: OpenApiResponse(
            GenerationPage,
            "A page of records. Pictures are never included as data URLs.",
            [OpenApiExample("last_page", {"next": None, "previous": None, "results": [examples.RECORD]})],
        ),
        304: _UNCHANGED,
        400: problem_response("The request is malformed.", "The request is malformed.", ErrorCode.MALFORMED_REQUEST),
        401: _INVALID_TOKEN,
        422: OpenApiResponse(
            HTTPValidationError,
            "Parameters are wrong or unknown; all of them are listed.",
            [
                OpenApiExample(
                    "wrong_state", {"detail": [examples.INVALID_STATE], "code": ErrorCode.INVALID_FIELDS.value}
                )
            ],
        ),
        429: _TOO_MANY_REQUESTS,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": [
        *query(GenerationFilters),
        header("Link", 'The next and the previous page, as `<…>; rel="next"` and `rel="prev"`.', [200], False),
        *_ETAGS,
        *_COMMON_HEADERS,
    ],
}

DELETION: dict[str, Any] = {
    "operation_id": "deleteGeneration",
    "tags": ["generations"],
    "summary": "Delete a generation",
    "responses": {
        204: OpenApiResponse(None, "Its texts and pictures are deleted. Its cost still counts against the limits."),
        401: _INVALID_TOKEN,
        404: GENERATION["responses"][404],
        409: problem_response(
            "It is queued or running, or on legal hold.",
            "It has not ended yet; cancel it first, or wait for its end.",
            ErrorCode.NOT_FINISHED,
            ErrorCode.ON_HOLD,
        ),
        410: _DELETED,
        429: _TOO_MANY_REQUESTS,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": _COMMON_HEADERS,
}

IMAGE: dict[str, Any] = {
    "operation_id": "getGenerationImage",
    "tags": ["generations"],
    "summary": "One picture",
    "responses": {
        302: OpenApiResponse(None, "See `Location`."),
        401: _INVALID_TOKEN,
        404: problem_response(
            "There is no such picture, or it is not finished.",
            "Not found: it does not exist or is not yours.",
            ErrorCode.NOT_FOUND,
        ),
        410: _DELETED,
        429: _TOO_MANY_REQUESTS,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": [
        header("Location", "The address of the picture; needs no token.", [302], format="uri"),
        *_COMMON_HEADERS,
    ],
}

CANCELLATION: dict[str, Any] = {
    "operation_id": "cancelGeneration",
    "tags": ["generations"],
    "summary": "Cancel a generation",
    "request": None,
    "responses": {
        200: OpenApiResponse(GenerationRecord, "It is canceled, now or by an earlier request."),
        202: OpenApiResponse(
            GenerationRecord,
            "It is running and will stop within a step.",
            [OpenApiExample("running", examples.RUNNING)],
        ),
        401: _INVALID_TOKEN,
        404: GENERATION["responses"][404],
        409: problem_response(
            "It has already ended.",
            "It has succeeded already, so nothing was canceled.",
            ErrorCode.ALREADY_FINISHED,
        ),
        410: _DELETED,
        429: _TOO_MANY_REQUESTS,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": _COMMON_HEADERS,
}

PROOF: dict[str, Any] = {
    **CANCELLATION,
    "operation_id": "proveGeneration",
    "summary": "Make a generation again, and compare",
    "responses": {
        202: OpenApiResponse(
            GenerationRecord, "The proof is queued, or was already.", [OpenApiExample("proof", examples.PROOF)]
        ),
        400: problem_response(
            "You may not use its model now.",
            "There is no such model here; leave model_id empty for the default model.",
            ErrorCode.UNKNOWN_MODEL,
        ),
        401: _INVALID_TOKEN,
        404: GENERATION["responses"][404],
        409: problem_response(
            "It cannot be made again.",
            "Its pictures were removed, so there is nothing to compare with.",
            ErrorCode.NOT_PROVABLE,
        ),
        410: _DELETED,
        429: IMAGE_TO_IMAGE["responses"][429],
        500: GENERATION["responses"][500],
        503: IMAGE_TO_IMAGE["responses"][503],
    },
    "parameters": [
        header("Location", "The address of the proof's record.", [202], format="uri"),
        *_COMMON_HEADERS,
    ],
}


MODELS: dict[str, Any] = {
    "operation_id": "listModels",
    "tags": ["models"],
    "summary": "Models",
    "responses": {
        200: OpenApiResponse(
            ModelList,
            "The models.",
            [OpenApiExample("bundled", {"models": [examples.TINY_EDIT, examples.TINY_REDRAW]})],
        ),
        401: _INVALID_TOKEN,
        429: _TOO_MANY_REQUESTS,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": _COMMON_HEADERS,
}

LORAS: dict[str, Any] = {
    **MODELS,
    "operation_id": "listLoras",
    "summary": "LoRAs",
    "responses": {
        **MODELS["responses"],
        200: OpenApiResponse(
            LoraList,
            "The LoRAs.",
            [OpenApiExample("one", {"loras": [{"id": "someone/watercolour", "models": [examples.MODEL]}]})],
        ),
    },
}

VERIFICATION: dict[str, Any] = {
    "operation_id": "verifyPicture",
    "tags": ["verify"],
    "summary": "Where a picture comes from",
    "auth": [],
    "request": {"multipart/form-data": Body_verifyPicture},
    "responses": {
        200: OpenApiResponse(
            Verification, "What the file tells.", [OpenApiExample("made_here", examples.VERIFICATION)]
        ),
        **{status: IMAGE_TO_IMAGE["responses"][status] for status in (408, 413, 415, 431)},
        400: problem_response(
            "The form cannot be read.",
            "The form cannot be read: it is damaged or cut short; let an HTTP library make it.",
            ErrorCode.MALFORMED_REQUEST,
        ),
        422: OpenApiResponse(
            HTTPValidationError,
            "There is no picture, or one that cannot be read.",
            [OpenApiExample("missing", {"detail": [examples.MISSING_PICTURE], "code": ErrorCode.INVALID_FIELDS.value})],
        ),
        429: problem_response(
            "You have reached a limit.",
            "You have had 10 pictures verified within a minute, the maximum; try again in 6 seconds.",
            ErrorCode.TOO_MANY_REQUESTS,
            ErrorCode.TOO_MANY_UPLOADS,
        ),
        500: GENERATION["responses"][500],
        503: problem_response(
            "Try again.",
            "The service is receiving as many requests as it has room for; try again in 5 seconds.",
            ErrorCode.UPLOADS_FULL,
            ErrorCode.UNAVAILABLE,
        ),
    },
    "parameters": [
        header("Accept-Encoding", "How bodies may be compressed.", [415]),
        header("Retry-After", _RETRY_AFTER, [408, 429, 503], type="integer"),
        header("Retry-After", _RETRY_AFTER, [500], False, type="integer"),
    ],
}
