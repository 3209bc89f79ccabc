"""The request fields of `POST /image-to-image` and the error codes. The response bodies are in `generation.responses`.

Every name, default, bound and description of a request field is only here: form parsing, 422 responses, the OpenAPI document
and the pages read it from these models. Field names and defaults are those of Livepeer's AI gateway.
"""

import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

MAX_SEED = 2**63 - 1
"""Largest seed of an image: the maximum of a signed 64-bit column and of Go's int64."""

RANDOM_SEED = -1
"""What other programs send for a random seed. It is accepted, and becomes None, as if none were sent."""

MAX_LORAS = 4


class Priority(StrEnum):
    """The priority of a request: a higher one runs before every lower one."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class OutputFormat(StrEnum):
    """How the pictures are encoded. PNG is lossless."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


class ResponseFormat(StrEnum):
    """Whether responses have the URLs of the pictures, or the pictures as data URLs."""

    URL = "url"
    DATA = "data"


class ErrorCode(StrEnum):
    """The stable, machine-readable reason of an error, with its HTTP status and meaning."""

    status: int
    meaning: str
    retry_after: int
    """Seconds until the same request may succeed, unless the error knows it better. 0: not on its own, or not within hours."""

    # The defaults are for `ErrorCode(code)`, which looks a member up.
    def __new__(cls, code: str, status: int = 500, meaning: str = "", retry_after: int = 0) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        member.meaning = meaning
        member.retry_after = retry_after
        return member

    def retry_headers(self, retry_after: int = 0) -> dict[str, str]:
        """Return the response headers that say whether to repeat the request, `retry_after` seconds from now if known.

        `X-Should-Retry: false` is what OpenAI's SDKs read; without it they repeat after every 409, 429 and 5xx.
        """
        headers = {} if self.retry_after else {"X-Should-Retry": "false"}
        seconds = retry_after or self.retry_after
        return {**headers, "Retry-After": str(seconds)} if seconds else headers

    INVALID_TOKEN = "invalid_token", 401, "the token is missing, unknown, expired or revoked, or its user is not active"
    MALFORMED_REQUEST = "malformed_request", 400, "the body is not a readable form"
    UNKNOWN_MODEL = "unknown_model", 400, "the model does not exist here or is not enabled"
    INVALID_LORAS = "invalid_loras", 400, "`loras` is not a JSON object of at most four names and weights"
    UNKNOWN_LORA = "unknown_lora", 400, "the LoRA is not allowed for this model"
    LORA_FAILED = "lora_failed", 400, "the LoRA does not fit the model"
    IMAGE_URL_REFUSED = "image_url_refused", 400, "`image_url` may not be fetched, or does not lead to a picture"
    NOT_FOUND = "not_found", 404, "it does not exist, or belongs to somebody else"
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "the `Allow` header lists the allowed methods"
    REQUEST_TIMEOUT = "request_timeout", 408, "headers or body were not sent in the time that they may take", 1
    ALREADY_FINISHED = "already_finished", 409, "it has ended and cannot be canceled"
    ON_HOLD = "on_hold", 409, "it is on legal hold and cannot be deleted now"
    NOT_FINISHED = "not_finished", 409, "it is queued or running and cannot be deleted; cancel it first"
    NOT_PROVABLE = "not_provable", 409, "it has no pictures, or what they were made from was removed"
    CANCELED = "canceled", 409, "its user canceled it"
    DELETED = "deleted", 410, "its user deleted it"
    UPLOAD_TOO_LARGE = (
        "upload_too_large",
        413,
        "the request is larger than `MAX_UPLOAD_BYTES`, or without pictures than 64 kB",
    )
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 415, "the body's `Content-Type` is none of those that are read"
    UNSUPPORTED_ENCODING = "unsupported_encoding", 415, "the body is compressed otherwise than by gzip or deflate"
    INVALID_FIELDS = (
        "invalid_fields",
        422,
        "fields are missing or wrong; `detail` lists all of them, a damaged picture once the rest is right",
    )
    KEY_REUSED = "key_reused", 422, "the `Idempotency-Key` was used with another request"
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        429,
        "the address or user has as many connections, streams, waiting requests or downloads as allowed",
        5,
    )
    TOO_MANY_QUEUED = "too_many_queued", 429, "the user has as many queued requests as allowed", 10
    TOO_MANY_UPLOADS = "too_many_uploads", 429, "the user is sending as many bytes at a time as allowed", 2
    TOO_MANY_REQUESTS = "too_many_requests", 429, "the user has sent as many requests as allowed", 60
    COST_EXCEEDED = "cost_exceeded", 429, "the request costs more than the user may still spend today"
    STORAGE_EXCEEDED = "storage_exceeded", 429, "the files of the user take as many bytes as allowed"
    HEADERS_TOO_LARGE = "headers_too_large", 431, "request line and headers are larger than 32 kB"
    MODEL_FAILED = "model_failed", 500, "the model could not be loaded, or failed"
    OUT_OF_MEMORY = "out_of_memory", 500, "there is not enough memory for a single picture"
    MODEL_TOO_LARGE = "model_too_large", 500, "the model does not fit into the worker's memory; use another one"
    STORAGE_FAILED = "storage_failed", 500, "the pictures could not be stored or read", 30
    WORKER_LOST = "worker_lost", 500, "the worker was lost three times while it ran this request"
    INTERNAL = "internal_error", 500, "an unexpected error; the log has the details", 5
    UNAVAILABLE = "unavailable", 503, "database, Redis or storage cannot be reached", 5
    MODEL_NOT_DOWNLOADED = "model_not_downloaded", 503, "the model is being downloaded, or was not yet", 60
    UPLOADS_FULL = "uploads_full", 503, "the service is receiving as many bytes as it has room for", 5
    QUEUE_FULL = "queue_full", 503, "the queue of the service is full", 30
    DISK_FULL = "disk_full", 503, "the disk of the service has too little room", 300
    DEADLINE = "deadline", 504, "it ran longer than its `Cancel-After`, or than any request may"
    DEADLINE_BEFORE_START = "deadline_before_start", 504, "its `Cancel-After` passed before a worker was free", 30


MESSAGES = {
    ErrorCode.CANCELED: "It was canceled.",
    ErrorCode.DELETED: "It was deleted, with its pictures.",
    ErrorCode.DEADLINE: "It took longer than it may; fewer steps or a smaller picture are faster.",
    ErrorCode.DEADLINE_BEFORE_START: "No worker was free before its deadline; try again later or allow more time.",
    ErrorCode.STORAGE_FAILED: "The pictures could not be stored or read; try again later.",
    ErrorCode.INTERNAL: "Image-to-image pipeline error.",
}
"""The messages of codes that always have the same message."""


FIELDS = {
    ErrorCode.UNKNOWN_MODEL: "model_id",
    ErrorCode.INVALID_LORAS: "loras",
    ErrorCode.UNKNOWN_LORA: "loras",
    ErrorCode.LORA_FAILED: "loras",
    ErrorCode.IMAGE_URL_REFUSED: "image_url",
}
"""The request field that causes the error of a code."""


_PLAIN_MESSAGES = {
    "int_parsing": "Input should be a whole number",
    "int_from_float": "Input should be a whole number",
    "float_parsing": "Input should be a number",
    "bool_parsing": "Input should be true or false",
}
"""The messages of pydantic's error types whose own messages are about parsing."""


class Refusal(Exception):
    """A request was not accepted. The API and the pages show it as an error.

    `message` is for people, `retry_after` is in seconds, by default the code's, and `field` is the wrong request field,
    if there is one. `headers` are those of the API's response, and `items` the list of a 422 body; without items the body has
    only the message.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after: int = 0,
        field: str = "",
        headers: Mapping[str, str] | None = None,
        items: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.headers = code.retry_headers(retry_after) | dict(headers or {})
        self.items = list(items)


class RequestRefused(Refusal):
    """A request as a whole cannot be accepted."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message, field=FIELDS.get(code, ""))


class InvalidField(Refusal):
    """A field is not valid: one item of a 422 list. `place` is body, header or query."""

    def __init__(
        self,
        field: str,
        message: str,
        type_: str = "value_error",
        place: str = "body",
        code: ErrorCode = ErrorCode.INVALID_FIELDS,
    ) -> None:
        self.item = {"loc": [place, field], "msg": message, "type": type_}
        super().__init__(code, message, field=field, items=[self.item])


class InvalidForm(Refusal):
    """Fields of a form or a query are not valid; `items` has all errors."""

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        super().__init__(ErrorCode.INVALID_FIELDS, "invalid form", items=items)


class ImageToImageParameters(BaseModel):
    """The text fields of the form. `generation.images.uploads` checks the picture."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=4000,
            description="What should happen to the picture, or what it should show.",
            examples=["make it night"],
        ),
    ]
    model_id: Annotated[
        str, Field(max_length=200, description="The model that makes the pictures. Empty: the default model.")
    ] = ""
    loras: Annotated[
        str,
        Field(
            max_length=4000,
            description=f"LoRAs as a JSON object of name and weight, at most {MAX_LORAS}, weights 0 or more, "
            'for example {"owner/style": 0.8}.',
        ),
    ] = ""
    strength: Annotated[
        float,
        Field(ge=0, le=1, description="How far the result may differ from the picture: 0 keeps it, 1 ignores it."),
    ] = 0.8
    guidance_scale: Annotated[float, Field(ge=0, le=50, description="How closely the result follows the prompt.")] = 7.5
    image_guidance_scale: Annotated[
        float,
        Field(ge=0, le=50, description="How closely the result follows the picture (InstructPix2Pix models only)."),
    ] = 1.5
    negative_prompt: Annotated[str, Field(max_length=4000, description="What the result should avoid.")] = ""
    safety_check: Annotated[
        bool, Field(description="Score every result for nudity. Flagged pictures are reported, not changed.")
    ] = True
    seed: Annotated[
        int | None,
        Field(
            ge=RANDOM_SEED,
            le=MAX_SEED,
            description="Seed of the random numbers; image i uses seed + i. Default: random, as is -1.",
            # The form of the API's page starts with it; without an example it would be the maximum, rounded by JavaScript.
            examples=[42],
        ),
        AfterValidator(lambda seed: None if seed == RANDOM_SEED else seed),
    ] = None
    num_inference_steps: Annotated[
        int, Field(ge=1, le=200, description="Denoising steps; more take longer and may give more detail.")
    ] = 100
    num_images_per_prompt: Annotated[int, Field(ge=1, le=10, description="How many pictures to make.")] = 1
    # The following fields are additions to Livepeer's.
    image_url: Annotated[
        str,
        Field(max_length=2000, description="Where to fetch the picture, instead of `image`, if the server allows it."),
    ] = ""
    mask_invert: Annotated[bool, Field(description="Change what the mask leaves out, and keep what it marks.")] = False
    mask_feather: Annotated[
        int | None,
        Field(
            ge=0,
            le=512,
            description="Over how many pixels of the picture, inside the mask, the change fades in from its edge. "
            "Default: 0.4 % of the longer side.",
            examples=[4],
        ),
    ] = None
    mask_padding: Annotated[
        int | None,
        Field(
            ge=0,
            le=4096,
            description="Draw only what the mask marks and this many pixels around it, at the model's full size, and put "
            "it back. Default: the whole picture is drawn.",
            examples=[32],
        ),
    ] = None
    output_format: Annotated[OutputFormat, Field(description="How the pictures are encoded: png, jpeg or webp.")] = (
        OutputFormat.PNG
    )
    output_quality: Annotated[int, Field(ge=0, le=100, description="Quality of jpeg and webp; png is lossless.")] = 90
    response_format: Annotated[
        ResponseFormat | None,
        Field(description="url: responses have URLs; data: they contain the pictures. Default: set by the server."),
    ] = None
    priority: Annotated[
        Priority,
        Field(description="Requests of a higher priority run first: low, normal, or for staff high."),
    ] = Priority.NORMAL
    dry_run: Annotated[
        bool, Field(description="Check the request and estimate it, but generate nothing; it costs nothing.")
    ] = False

    @field_validator("prompt", "model_id", "loras", "negative_prompt", "image_url")
    @classmethod
    def refuse_unstorable_text(cls, text: str) -> str:
        return storable(text)

    @model_validator(mode="after")
    def keep_last_seed_in_range(self) -> Self:
        if self.seed is not None and self.seed + self.num_images_per_prompt - 1 > MAX_SEED:
            raise InvalidField(
                "seed",
                f"The seed of the last image would be above {MAX_SEED}; choose a seed of at most "
                f"{MAX_SEED - self.num_images_per_prompt + 1} for {self.num_images_per_prompt} images",
            )
        return self

    @classmethod
    def from_form(cls, fields: Mapping[str, str]) -> Self:
        """Read the form; an empty field counts as absent, as the published SDKs send `model_id=` and the like.

        Raises pydantic's `ValidationError` (see `error_items`) or `InvalidField`.
        """
        return cls.model_validate({name: text for name, text in fields.items() if text != ""})


def storable(text: str) -> str:
    """Refuse NUL, which PostgreSQL cannot store; a pydantic validator."""
    if "\0" in text:
        raise PydanticCustomError("value_error", "Text must not contain NUL characters")
    return text


def error_items(
    error: pydantic.ValidationError, model: type[BaseModel] = ImageToImageParameters, place: str = "body"
) -> list[dict[str, Any]]:
    """Return the items of a 422 body: place, message with the allowed values, type; never the input."""
    return [
        {"loc": [place, *item["loc"][:1]], "msg": _message(item, model), "type": item["type"]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def missing(field: str) -> dict[str, Any]:
    """Return the item of a 422 body for a field that is missing."""
    return {"loc": ["body", field], "msg": "Field required", "type": "missing"}


def bounds(field: FieldInfo) -> dict[str, float | int]:
    """Return the bounds of a field: `ge`, `le` and `max_length`, as far as it has them."""
    return {
        name: getattr(constraint, name)
        for constraint in field.metadata
        for name in ("ge", "le", "max_length")
        if hasattr(constraint, name)
    }


def _message(item: ErrorDetails, model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return f"There is no such parameter; there are {', '.join(model.model_fields)}"
    out_of_range = {"greater_than_equal", "less_than_equal", "finite_number", "int_parsing_size"}
    field = model.model_fields.get(str(item["loc"][0])) if item["loc"] else None
    if field is None or item["type"] not in out_of_range:
        return _PLAIN_MESSAGES.get(item["type"], item["msg"])
    bound = bounds(field)
    return f"Input should be a number from {bound['ge']} to {bound['le']}"


def parse_loras(text: str) -> dict[str, float]:
    """Parse `loras` as a mapping of LoRA name to weight. Raises `RequestRefused`: the status is 400, as in Livepeer's API."""
    if text.strip() == "":
        return {}
    try:
        loras = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestRefused(
            ErrorCode.INVALID_LORAS, "Unable to parse loras as JSON; send an object of LoRA name and weight."
        ) from None
    if not isinstance(loras, dict):
        raise RequestRefused(ErrorCode.INVALID_LORAS, "loras must be a JSON object of LoRA name and weight.")
    if len(loras) > MAX_LORAS:
        raise RequestRefused(ErrorCode.INVALID_LORAS, f"Too many LoRAs provided. Maximum is {MAX_LORAS}.")
    if not all(name.isprintable() and len(name) <= 200 for name in loras):
        raise RequestRefused(ErrorCode.INVALID_LORAS, "LoRA names must be of the form owner/name.")
    return {name: _lora_weight(weight) for name, weight in loras.items()}


def _lora_weight(weight: Any) -> float:
    try:
        number = float(weight)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (0 <= number <= 10):
        raise RequestRefused(
            ErrorCode.INVALID_LORAS, "All LoRA weights must be numbers greater than or equal to 0.0 and at most 10."
        )
    return number
