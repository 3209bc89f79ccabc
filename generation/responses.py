"""The response bodies of the API: pictures, records, errors. The OpenAPI document is generated from them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, RootModel

from generation.families import Family
from generation.parameters import ErrorCode

StateName = Literal["queued", "running", "succeeded", "failed", "canceled"]

Cost = Annotated[float, AfterValidator(lambda cost: round(cost, 9))]
"""A cost without the rounding errors of floating point: 13.53, not 13.530000000000001."""


class Media(BaseModel):
    """A picture of a response."""

    url: str = Field(description="The address of the picture; needs no token. Or a data URL: see `response_format`.")
    seed: int = Field(description="The seed that made this picture.")
    nsfw: bool = Field(description="Whether the picture was flagged. False if it was not checked.")


class ImageResponse(BaseModel):
    """The response of `POST /image-to-image`. What follows `images` are additions to Livepeer's API."""

    images: list[Media]
    id: UUID = Field(description="The id of the generation; `GET /generations/{id}` has its record.")
    model_id: str = Field(description="The model that made the pictures.")
    warnings: list[str] = Field(description="What was changed or had no effect.")
    reused_from: UUID | None = Field(
        None,
        description="The generation whose pictures were answered again, without a run and at no cost. Else absent.",
    )


class GeneratedMedia(Media):
    """A picture of a record."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    nsfw_score: float | None = Field(description="0 to 1. Null if the picture was not checked.")
    checked: bool = Field(description="Whether a safety checker has scored the picture.")
    watermark: bool = Field(description="Whether the picture carries the watermark of this service.")


class ContentCredentials(BaseModel):
    """What the content credentials of a file (C2PA) claim. Whether to believe it depends on the signer."""

    state: Literal["own", "foreign", "altered", "invalid", "unreadable"] = Field(
        description="own: intact, signed by this site. foreign: intact, signed by others. altered: the file was changed since "
        "it was signed. invalid: unusable for another reason, such as an expired certificate. unreadable: damaged, or kept "
        "outside of the file."
    )
    signer: str = Field(description="The name in the certificate. Empty if unknown.")
    generator: str = Field(description="The software that wrote them. Empty if unknown.")
    signed: datetime | None = Field(description="Null if they do not say when.")
    digital_source_type: str = Field(
        description="The IPTC term for the kind of origin, as its address. Empty if unknown."
    )


class InputMedia(BaseModel):
    """An input picture of a record."""

    url: str | None = Field(description="Its address as stored; needs no token. Null if it was removed.")
    width: int = Field(description="Pixels of the upload.")
    height: int = Field(description="Pixels of the upload.")
    content_credentials: ContentCredentials | None = Field(description="Of the upload. Null if it had none.")


class MaskMedia(BaseModel):
    """The mask of a record, in the size of the input: white may change."""

    url: str | None = Field(description="Its address; needs no token. Null if it was removed.")
    open_share: float = Field(description="How much of the picture may change, above 0 to 1.")


class Failure(BaseModel):
    """Why a generation failed or was canceled."""

    code: ErrorCode
    msg: str


class Timings(BaseModel):
    """Seconds; null until known."""

    queued: float | None = Field(description="From its acceptance to its first start.")
    running: float | None = Field(description="From its first start to its end.")
    phases: dict[str, float] = Field(description="Seconds by phase of the run, such as denoising or decoding.")


class Receipt(BaseModel):
    """What made the pictures of a generation. The digests are SHA-256."""

    packages: dict[str, str] = Field(
        description="The versions of this service and of the libraries that decide pixels."
    )
    pipeline: str = Field(description="The class of diffusers.")
    scheduler: str = Field(description="The class of diffusers.")
    dtype: str = Field(description="The type of numbers that it was computed in, such as bfloat16.")
    device: str = Field(description="The processor or card, and the instructions that torch used on a processor.")
    threads: int = Field(description="Threads of the processor.")
    memory_plan: str = Field(description="How the model was placed: whole, offloaded, quantized.")
    safety_checker: str = Field(description="The checker that is set, and from where it flags if that is set.")
    files: dict[str, str] = Field(description="The digest of each file of the model, weights and configuration.")
    loras: dict[str, str] = Field(description="The digest of the file of each LoRA.")
    watermark: bool = Field(description="Whether results were to carry a watermark. The pictures say which of them do.")
    watermark_key: str | None = Field(
        None,
        description="Names the key of the watermark, without telling it. Null without one, or if it was not recorded.",
    )
    batch_sizes: list[int] = Field(description="For each picture, how many pictures were made in one call with it.")


class PictureComparison(BaseModel):
    """A picture that was made again, compared with that of the first time."""

    identical: bool = Field(description="Whether all pixels are the same.")
    psnr: float | None = Field(description="Peak signal-to-noise ratio in decibels. Null for identical pictures.")
    largest_difference: int = Field(description="Of a colour of a pixel, 0 to 255.")


class Difference(BaseModel):
    """What differs between two receipts; null where one of them has none."""

    name: str = Field(description="A field of the receipt, such as `dtype`, or the name of a package, file or LoRA.")
    then: str | None
    now: str | None


class Proof(BaseModel):
    """What a generation that was made again proves."""

    of: UUID = Field(description="The generation whose pictures it is compared with.")
    identical: bool | None = Field(description="Whether all pictures are bit-exact. Null until `succeeded`.")
    pictures: list[PictureComparison] = Field(description="In the order of the pictures. Empty until `succeeded`.")
    differences: list[Difference] | None = Field(
        description="What of the receipts differs. Null until `succeeded`, or if there is none of the first time."
    )


class Waiting(BaseModel):
    """Why and how long a generation is queued. Estimates come from earlier runs here, and are null before there are any."""

    position: int = Field(description="The queue position: how many will start before it, plus one.")
    reason: str = Field(description="Why it is not running yet.")
    estimated_start: datetime | None
    estimated_finish: datetime | None


class Progress(BaseModel):
    """The progress of a running generation."""

    phase: str = Field(description="loading, encoding, denoising, decoding, safety or storing.")
    step: int = Field(description="Steps done.")
    of: int = Field(description="Steps of the whole run.")
    percent: int = Field(description="0 to 100.")
    estimated_finish: datetime | None


class GenerationRecord(BaseModel):
    """The record of a generation."""

    id: UUID
    state: StateName = Field(description="`succeeded`, `failed` and `canceled` are final.")
    model_id: str = Field(description="The model that generates the pictures.")
    parameters: dict[str, Any] = Field(description="The fields of the request, with defaults.")
    effective: dict[str, Any] = Field(description="The values that the model runs with.")
    inputs: list[InputMedia] = Field(description="The picture, once it is there, and the further ones.")
    mask: MaskMedia | None = Field(description="Null without a mask.")
    outside_mask: Literal["identical", "re-encoded"] | None = Field(
        description="The pixels that may not change: in a png exactly those of the input; in a jpeg or webp the same, but "
        "encoded anew. Null without a mask."
    )
    images: list[GeneratedMedia] = Field(description="Empty until `succeeded`.")
    warnings: list[str] = Field(description="What was changed or had no effect.")
    error: Failure | None = Field(description="Null unless `failed` or `canceled`.")
    cost: Cost = Field(description="Steps x megapixels x images x model weight. It counts against the daily limit.")
    waiting: Waiting | None = Field(description="Null unless `queued`.")
    progress: Progress | None = Field(description="Null unless `running`, and until the worker has reported some.")
    events_url: str | None = Field(
        description="The address of its event stream, for `EventSource`: needs no token, and can be opened for ten minutes; "
        "a later record has a new one. Null once it has ended."
    )
    created: datetime
    started: datetime | None
    finished: datetime | None
    timings: Timings
    receipt: Receipt | None = Field(description="What made the pictures. Null until `succeeded`, or if not recorded.")
    reused_from: UUID | None = Field(
        description="The generation whose pictures were answered again, without a run and at no cost. Null otherwise."
    )
    proof: Proof | None = Field(description="What it has found of another generation. Null if it is no proof.")


class DryRun(BaseModel):
    """The estimate of a request with `dry_run`. Nothing is generated."""

    model_id: str
    effective: dict[str, Any] = Field(description="The values that the model would run with.")
    cost: Cost = Field(description="What would count against the daily limit.")
    warnings: list[str]
    waiting: Waiting = Field(description="Its queue position and estimates, if it were sent now.")
    reused_from: UUID | None = Field(
        None, description="The generation whose pictures would be answered, at no cost. Else absent."
    )


class ImageResponseOrDryRun(RootModel[ImageResponse | DryRun]):
    """Pictures, or with `dry_run` an estimate."""


class GenerationPage(BaseModel):
    """A page of records, newest first."""

    next: str | None = Field(description="The page of older records. Null on the last page.")
    previous: str | None = Field(description="The page of newer records. Null on the first page.")
    results: list[GenerationRecord]


class Verification(BaseModel):
    """What a file tells of where the picture comes from. Nothing tells by whom."""

    origin: Literal["here", "elsewhere", "unknown"] = Field(
        description="here: this site made it. elsewhere: others say that they did, in intact content credentials. unknown: "
        "nothing tells."
    )
    evidence: Literal["content_credentials", "watermark"] | None = Field(
        description="What tells the origin. Null if it is unknown."
    )
    altered: bool | None = Field(
        description="Whether the file was changed since it was made or signed. Null if nothing tells."
    )
    deleted: bool = Field(description="Whether it was made here and has been deleted.")
    model_id: str | None = Field(description="The model that made it here. Null if unknown.")
    made: datetime | None = Field(description="When it was made here, by its recipe the first time. Null if unknown.")
    generation: UUID | None = Field(description="The generation that the content credentials of this site name.")
    index: int | None = Field(description="Which of its pictures, from 0.")
    seed: int | None = Field(description="The seed that they name.")
    recipe: dict[str, Any] | None = Field(description="Prompt and settings, if their owner has them told. Else null.")
    content_credentials: ContentCredentials | None = Field(description="Null if the file has none.")
    source: ContentCredentials | None = Field(
        description="Those of the upload that it was made of, as this site found them then. Null if it had none."
    )
    summary: str = Field(description="All of this in a sentence or two.")
    unknown: list[str] = Field(description="What cannot be told, in sentences.")


class APIError(BaseModel):
    """The error."""

    msg: str = Field(description="For people; may change.")
    code: ErrorCode


class HTTPError(BaseModel):
    """The body of every error except 422."""

    detail: APIError


def error_body(code: ErrorCode, message: str) -> dict[str, Any]:
    """Return the JSON body of an error whose status is not 422."""
    return HTTPError(detail=APIError(msg=message, code=code)).model_dump(mode="json")


class OpenAIProblem(BaseModel):
    """The error."""

    message: str
    type: str = Field(description="invalid_request_error, rate_limit_error or server_error.")
    param: str | None
    code: str = Field(description="One of `ErrorCode`, or `not_finished`.")


class OpenAIError(BaseModel):
    """The body of every error under `/v1`, as OpenAI's clients read it."""

    error: OpenAIProblem


def openai_error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error under `/v1`. `param` is the wrong field, if there is one."""
    type_ = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    problem = OpenAIProblem(message=message, type=type_, param=param, code=code)
    return OpenAIError(error=problem).model_dump(mode="json")


class ValidationError(BaseModel):
    """An error in one field."""

    loc: list[str | int] = Field(description='The place of the field, such as `["body", "strength"]`.')
    msg: str = Field(description="What is wrong, with the allowed range if there is one.")
    type: str = Field(description="The kind of error, such as `missing`, `float_parsing` or `less_than_equal`.")


class HTTPValidationError(BaseModel):
    """The body of status 422: one item for each error."""

    detail: list[ValidationError]
    code: ErrorCode


class ParameterDescription(BaseModel):
    """How a model treats a request field."""

    has_effect: bool = Field(description="Whether it has an effect on this model. If not, it may still be sent.")
    default: bool | int | float | str | None = Field(
        description="The value of an absent field, the same for all models. It may be above `maximum`."
    )
    minimum: int | float | None = Field(description="The smallest allowed value. Null if it is not a number.")
    maximum: int | float | None = Field(description="The largest allowed value. Null if it is not a number.")
    recommended: int | float | None = Field(description="The best value for this model. Null if unknown.")
    forced: bool | int | float | None = Field(
        description="The value that always replaces that of the request. Null if there is none."
    )


class Sizes(BaseModel):
    """The sizes of pictures that the model makes well, in pixels. The result has the size of the input, unless reduced."""

    min_side: int = Field(
        description="A picture with a shorter side is drawn larger, as far as `max_side` allows, and scaled back."
    )
    max_side: int = Field(description="A longer side is reduced to this.")
    max_pixels: int = Field(description="A picture of more pixels, width x height, is reduced to this.")


class ModelDescription(BaseModel):
    """A model that requests may name."""

    id: str = Field(description="The value for `model_id`.")
    kind: Family = Field(description="The model family, which decides which fields have an effect.")
    is_default: bool = Field(description="Whether requests without `model_id` use it.")
    is_warm: bool | None = Field(
        description="Whether a worker has it loaded. Null if unknown, since Redis cannot be reached."
    )
    is_downloaded: bool | None = Field(
        description="Whether a worker has its weights on its disk; if none has, requests get 503. Null if unknown."
    )
    cost_weight: float = Field(description="The cost of a step of one megapixel.")
    sizes: Sizes
    needs_mask: bool = Field(description="Whether requests must have a `mask`. All models take one.")
    max_images: int = Field(description="How many pictures it reads: `image`, and further ones in `images[]`.")
    parameters: dict[str, ParameterDescription] = Field(
        description="The fields whose effect or bounds depend on the model."
    )
    loras: list[str] = Field(description="The LoRAs that can be used with this model.")
    examples: list[str] = Field(description="Example prompts.")


class ModelList(BaseModel):
    """The models that you may use, the default first."""

    models: list[ModelDescription]


class LoraDescription(BaseModel):
    """A LoRA that requests may name."""

    id: str = Field(description="Its name in `loras`.")
    models: list[str] = Field(description="The models it may be used with.")


class LoraList(BaseModel):
    """The LoRAs that you may use."""

    loras: list[LoraDescription]
