"""The bodies that the API answers with: pictures, records, errors. The OpenAPI document describes them from here."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, RootModel

from generation.families import Family
from generation.parameters import ErrorCode

StateName = Literal["queued", "running", "succeeded", "failed", "canceled"]


class Media(BaseModel):
    """One picture of an answer."""

    url: str = Field(description="Where to fetch the picture; needs no header. A data URL where the server says so.")
    seed: int = Field(description="The seed that made this picture.")
    nsfw: bool = Field(description="Whether the picture was flagged. False when it was not checked.")


class ImageResponse(BaseModel):
    """What `POST /image-to-image` answers; `id`, `model_id` and `warnings` are additions to the contract."""

    images: list[Media]
    id: UUID = Field(description="The generation; `GET /generations/{id}` has its record.")
    model_id: str = Field(description="The model that made the pictures.")
    warnings: list[str] = Field(description="What was changed or had no effect, in words.")


class GeneratedMedia(Media):
    """One picture of a record."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    nsfw_score: float | None = Field(description="0 to 1. Null when the picture was not checked.")
    checked: bool = Field(description="Whether a safety checker judged the picture.")


class Failure(BaseModel):
    """Why a generation failed or was canceled."""

    code: ErrorCode
    msg: str


class Timings(BaseModel):
    """Seconds; null until known."""

    queued: float | None = Field(description="From its acceptance to its first start.")
    running: float | None = Field(description="From its first start to its end.")
    phases: dict[str, float] = Field(description="Seconds by phase of the run, such as denoising or decoding.")


class Waiting(BaseModel):
    """What a queued generation waits for. Estimates come from what was measured here, and are absent before."""

    position: int = Field(description="How many will start before it, plus one.")
    reason: str = Field(description="Why it is not running yet, in words.")
    estimated_start: datetime | None
    estimated_finish: datetime | None


class Progress(BaseModel):
    """Where a running generation is."""

    phase: str = Field(description="loading, encoding, denoising, decoding, safety or storing.")
    step: int = Field(description="Steps done.")
    of: int = Field(description="Steps of the whole run.")
    percent: int = Field(description="0 to 100.")
    estimated_finish: datetime | None


class GenerationRecord(BaseModel):
    """The durable record of a request."""

    id: UUID
    state: StateName = Field(description="`succeeded`, `failed` and `canceled` are final.")
    model_id: str = Field(description="The model that makes the pictures.")
    parameters: dict[str, Any] = Field(description="The request as it was understood, defaults filled in.")
    effective: dict[str, Any] = Field(description="What the model was run with, after its own rules were applied.")
    images: list[GeneratedMedia] = Field(description="Empty until `succeeded`.")
    warnings: list[str] = Field(description="What was changed or had no effect, in words.")
    error: Failure | None = Field(description="Null unless `failed` or `canceled`.")
    cost: float = Field(
        description="What it counts against the day's limit: steps x megapixels x images x model weight."
    )
    waiting: Waiting | None = Field(description="Null unless `queued`.")
    progress: Progress | None = Field(description="Null unless `running`, and until its worker has said something.")
    created: datetime
    started: datetime | None
    finished: datetime | None
    timings: Timings


class DryRun(BaseModel):
    """What would happen to a request that was sent with `dry_run`. Nothing was made."""

    model_id: str
    effective: dict[str, Any] = Field(description="What the model would be run with.")
    cost: float = Field(description="What it would count against the day's limit.")
    warnings: list[str]
    waiting: Waiting = Field(description="Where it would stand in the line if it were sent now.")


class ImageResponseOrDryRun(RootModel[ImageResponse | DryRun]):
    """Pictures, or with `dry_run` what would happen."""


class GenerationPage(BaseModel):
    """A page of one's own records, the newest first."""

    next: str | None = Field(description="Where the older ones are. Null on the last page.")
    previous: str | None = Field(description="Where the newer ones are. Null on the first page.")
    results: list[GenerationRecord]


class APIError(BaseModel):
    """What went wrong."""

    msg: str = Field(description="For people; may change.")
    code: ErrorCode


class HTTPError(BaseModel):
    """Every error but 422."""

    detail: APIError


def error_body(code: ErrorCode, message: str) -> dict[str, Any]:
    """Return the JSON body of an error whose status is not 422."""
    return HTTPError(detail=APIError(msg=message, code=code)).model_dump(mode="json")


class ValidationError(BaseModel):
    """One thing that is wrong with one field."""

    loc: list[str | int] = Field(description='Where, such as `["body", "strength"]`.')
    msg: str = Field(description="What is wrong; where a range is allowed, which.")
    type: str = Field(description="Its kind, such as `missing`, `float_parsing` or `less_than_equal`.")


class HTTPValidationError(BaseModel):
    """Status 422: one item for each thing that is wrong."""

    detail: list[ValidationError]
    code: ErrorCode


class ParameterDescription(BaseModel):
    """What one model makes of one field of a request."""

    has_effect: bool = Field(description="Whether it changes the pictures of this model; if not, it may still be sent.")
    default: bool | int | float | str | None = Field(
        description="What an absent field means, the same for all models. It may be above what is allowed here."
    )
    minimum: int | float | None = Field(description="The least that is accepted. Null for what is no number.")
    maximum: int | float | None = Field(
        description="The most that is accepted of you here. Null for what is no number."
    )
    recommended: int | float | None = Field(
        description="What the model does best with. Null where nobody has measured."
    )
    forced: int | float | None = Field(
        description="What it runs with whatever is sent. Null where it does as it is told."
    )


class Sizes(BaseModel):
    """Sides of the result in pixels. A picture in between comes back in its own size, any other is fitted."""

    min_side: int = Field(description="A shorter side is brought up to this, as far as `max_side` allows.")
    max_side: int = Field(description="A longer side is brought down to this.")


class ModelDescription(BaseModel):
    """A model that requests may name."""

    id: str = Field(description="What to send as `model_id`.")
    kind: Family = Field(description="How it works, and so which fields have an effect.")
    is_default: bool = Field(description="Whether a request that names no model gets this one.")
    is_warm: bool | None = Field(
        description="Whether a worker has it loaded. Null when nobody can tell: Redis cannot be reached."
    )
    cost_weight: float = Field(description="What a step of a megapixel costs.")
    sizes: Sizes
    parameters: dict[str, ParameterDescription] = Field(description="The fields that a model may treat in its own way.")
    loras: list[str] = Field(description="What `loras` may name with this model.")
    examples: list[str] = Field(description="Prompts that show what it can do, as staff have listed them.")


class ModelList(BaseModel):
    """All models that you may use, the default first."""

    models: list[ModelDescription]


class LoraDescription(BaseModel):
    """A LoRA that requests may name."""

    id: str = Field(description="What to name it in `loras`.")
    models: list[str] = Field(description="The models it may be used with.")


class LoraList(BaseModel):
    """All LoRAs that you may use."""

    loras: list[LoraDescription]
