"""The operations of the OpenAPI document: bodies, statuses, headers, examples."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from pydantic import BaseModel

from generation.api.openapi import Body_genImageToImage
from generation.filters import GenerationFilters
from generation.parameters import MAX_SEED, MESSAGES, RANDOM_SEED, ErrorCode
from generation.responses import (
    GenerationPage,
    GenerationRecord,
    HTTPError,
    HTTPValidationError,
    ImageResponseOrDryRun,
    LoraList,
    ModelList,
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


_ID = "01a2032b-11dd-71cc-a49b-bda70ca7bc16"
_MODEL = "dreamsite/tiny-edit"
_WARNINGS = [f"strength has no effect on {_MODEL}."]
_MEDIA = {
    "url": f"http://127.0.0.1:8000/media/outputs/2026/11/22/{_ID}/1-0.png"
    "?expires=1795959648&signature=f91fd8003f14efab68dfbeb4ec215333bc2ac5e1faba425e9098380b755fe74e",
    "seed": 7,
    "nsfw": False,
}
_IMAGES = {"images": [_MEDIA], "id": _ID, "model_id": _MODEL, "warnings": _WARNINGS}
_RECORD = {
    "id": _ID,
    "state": "succeeded",
    "model_id": _MODEL,
    "parameters": {
        "prompt": "make it night",
        "model_id": "",
        "loras": "",
        "strength": 0.5,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "negative_prompt": "",
        "safety_check": True,
        "seed": 7,
        "num_inference_steps": 20,
        "num_images_per_prompt": 1,
    },
    "effective": {
        "strength": 0.5,
        "guidance_scale": 1.7475,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 20,
        "seeds": [7],
        "width": 256,
        "height": 256,
    },
    "images": [{**_MEDIA, "width": 256, "height": 256, "nsfw_score": 0.000475, "checked": True}],
    "warnings": _WARNINGS,
    "error": None,
    "cost": 1.31072,
    "waiting": None,
    "progress": None,
    "events_url": None,
    "created": "2026-11-22T12:11:24.018980Z",
    "started": "2026-11-22T12:11:24.080442Z",
    "finished": "2026-11-22T12:11:58.338621Z",
    "timings": {
        "queued": 0.061462,
        "running": 34.258179,
        "phases": {"encoding": 0.5506, "denoising": 32.8676, "decoding": 0.6102, "safety": 0.1258, "storing": 0.09},
    },
}
_RUNNING: dict[str, Any] = {
    **_RECORD,
    "state": "running",
    "images": [],
    "finished": None,
    "progress": {
        "phase": "denoising",
        "step": 8,
        "of": 20,
        "percent": 40,
        "estimated_finish": "2026-11-22T12:11:45.018980Z",
    },
    "events_url": f"http://127.0.0.1:8000/generations/{_ID}/events?token_id=3"
    "&expires=1795350306&signature=0c25e8a1c6a3e1b4a9f5f0c4f1f0d1e7d1c5b6e5f0f4a3c2b1a09f8e7d6c5b4a",
    "timings": {"queued": 0.061462, "running": None, "phases": {}},
}
_INVALID_FIELDS = [
    {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"},
    {"loc": ["body", "strength"], "msg": "Input should be a number from 0 to 1", "type": "less_than_equal"},
]
_INVALID_STATE = {
    "loc": ["query", "state"],
    "msg": "Input should be 'queued', 'running', 'succeeded', 'failed' or 'canceled'",
    "type": "literal_error",
}

_INVALID_TOKEN = problem_response(
    "The token is missing or not valid.", "Invalid bearer token.", ErrorCode.INVALID_TOKEN
)
_AUTHENTICATE = header("WWW-Authenticate", "`Bearer`", [401], const="Bearer")
_RETRY_AFTER = "Seconds until the same request may succeed."
_COMMON_HEADERS = [
    _AUTHENTICATE,
    header("Retry-After", _RETRY_AFTER, [503], type="integer"),
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
            [OpenApiExample("made", _IMAGES)],
        ),
        202: OpenApiResponse(
            GenerationRecord,
            "Accepted, but not finished within the time that the server waits. It continues: poll `Location` until "
            "`state` is `succeeded`, `failed` or `canceled`.",
            [OpenApiExample("running", _RUNNING)],
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
            [OpenApiExample("wrong_fields", {"detail": _INVALID_FIELDS, "code": ErrorCode.INVALID_FIELDS.value})],
        ),
        429: problem_response(
            "You have reached a limit; the request was not accepted.",
            "You have sent 60 requests within a minute, the maximum; try again in 21 seconds.",
            ErrorCode.TOO_MANY_REQUESTS,
            ErrorCode.TOO_MANY_QUEUED,
            ErrorCode.COST_EXCEEDED,
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
        200: OpenApiResponse(GenerationRecord, "The record, with fresh URLs.", [OpenApiExample("succeeded", _RECORD)]),
        304: _UNCHANGED,
        401: _INVALID_TOKEN,
        404: problem_response(
            "It does not exist or is not yours.", "Not found: it does not exist or is not yours.", ErrorCode.NOT_FOUND
        ),
        410: _DELETED,
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
            [OpenApiExample("last_page", {"next": None, "previous": None, "results": [_RECORD]})],
        ),
        304: _UNCHANGED,
        400: problem_response("The request is malformed.", "The request is malformed.", ErrorCode.MALFORMED_REQUEST),
        401: _INVALID_TOKEN,
        422: OpenApiResponse(
            HTTPValidationError,
            "Parameters are wrong or unknown; all of them are listed.",
            [OpenApiExample("wrong_state", {"detail": [_INVALID_STATE], "code": ErrorCode.INVALID_FIELDS.value})],
        ),
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
            GenerationRecord, "It is running and will stop within a step.", [OpenApiExample("running", _RUNNING)]
        ),
        401: _INVALID_TOKEN,
        404: GENERATION["responses"][404],
        409: problem_response(
            "It has already ended.",
            "It has succeeded already, so nothing was canceled.",
            ErrorCode.ALREADY_FINISHED,
        ),
        410: _DELETED,
        500: GENERATION["responses"][500],
        503: GENERATION["responses"][503],
    },
    "parameters": _COMMON_HEADERS,
}


def _parameter(default: Any, minimum: float | None = None, maximum: float | None = None, **more: Any) -> dict[str, Any]:
    bounds = {"default": default, "minimum": minimum, "maximum": maximum}
    return {"has_effect": True, **bounds, "recommended": None, "forced": None, **more}


_TINY_EDIT: dict[str, Any] = {
    "id": _MODEL,
    "kind": "instruct-pix2pix",
    "is_default": True,
    "is_warm": True,
    "is_downloaded": True,
    "cost_weight": 1.0,
    "sizes": {"min_side": 128, "max_side": 512, "max_pixels": 262144},
    "parameters": {
        "loras": _parameter(""),
        "strength": _parameter(0.8, 0, 1, has_effect=False),
        "guidance_scale": _parameter(7.5, 0, 50, recommended=7.5),
        "image_guidance_scale": _parameter(1.5, 0, 50, recommended=1.5),
        "negative_prompt": _parameter(""),
        "safety_check": _parameter(True),
        "seed": _parameter(None, RANDOM_SEED, MAX_SEED),
        "num_inference_steps": _parameter(100, 1, 200, recommended=20),
        "num_images_per_prompt": _parameter(1, 1, 10),
    },
    "loras": ["dreamsite/banknote", "dreamsite/knitted"],
    "examples": ["turn it into a pencil sketch", "make it night"],
}
_TINY_REDRAW = {
    **_TINY_EDIT,
    "id": "dreamsite/tiny-redraw",
    "kind": "stable-diffusion",
    "is_default": False,
    "is_warm": False,
    "sizes": {"min_side": 128, "max_side": 192, "max_pixels": 36864},
    "parameters": {
        **_TINY_EDIT["parameters"],
        "loras": _parameter("", has_effect=False),
        "strength": _parameter(0.8, 0, 1, recommended=0.9),
        "image_guidance_scale": _parameter(1.5, 0, 50, has_effect=False),
        "num_inference_steps": _parameter(100, 1, 200, recommended=25),
    },
    "loras": [],
    "examples": ["a red apple", "a rocket"],
}

MODELS: dict[str, Any] = {
    "operation_id": "listModels",
    "tags": ["models"],
    "summary": "Models",
    "responses": {
        200: OpenApiResponse(
            ModelList, "The models.", [OpenApiExample("bundled", {"models": [_TINY_EDIT, _TINY_REDRAW]})]
        ),
        401: _INVALID_TOKEN,
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
            [OpenApiExample("one", {"loras": [{"id": "someone/watercolour", "models": [_MODEL]}]})],
        ),
    },
}
