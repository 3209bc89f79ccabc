"""Once more: a new generation from the picture, the parameters and the seeds of one that has ended."""

from io import BytesIO

from PIL import Image

from accounts.models import ApiToken
from generation import allowance, media, request_ids, submission
from generation.intake import Intake
from generation.models import Generation
from generation.parameters import InvalidField, RequestRefused


class Impossible(Exception):
    """It cannot be made once more; the text says why."""


def again(generation: Generation) -> Generation:
    """A new generation of the same user, which counts for their limits as their own request would.

    Raises `Impossible` with nothing half-created.
    """
    if not generation.is_final:
        raise Impossible("it has not ended yet")
    if generation.deleted:
        raise Impossible("its picture was deleted")
    wanted = generation.wanted
    if not (generation.input or wanted.image_url):
        raise Impossible("it has no picture")
    if (seeds := generation.recipe.get("seeds")) and wanted.seed is None:
        wanted = wanted.model_copy(update={"seed": seeds[0]})
    token = generation.token or ApiToken(user=generation.user)
    try:
        picture = _picture(generation) if generation.input else None
        made = submission.draft(token, wanted, picture, request_id=request_ids.current()[:64])
        made.token = generation.token
        return submission.submit(made, picture)
    except (RequestRefused, allowance.OverLimit) as refused:
        raise Impossible(refused.message) from refused
    except InvalidField as invalid:
        raise Impossible(str(invalid)) from invalid
    except allowance.QueueFull as full:
        raise Impossible("the queue is full") from full
    except (submission.Unavailable, media.StorageFailed) as error:
        raise Impossible("Redis, the database or the storage cannot be reached now") from error


def _picture(generation: Generation) -> Intake:
    """The input as it was kept, with what is known of the upload. Raises `StorageFailed`."""
    kept = Image.open(BytesIO(media.read(str(generation.input.name)))).convert("RGB")
    size = generation.input_width, generation.input_height
    return Intake(kept, size, generation.input_sha256, generation.input_format)
