"""Once more: a new generation from the picture, the parameters and the seeds of one that has ended."""

from accounts import request_ids
from generation.images import storage
from generation.jobs import limits, submission
from generation.library.stored import Stored
from generation.models import Generation
from generation.parameters import InvalidField, RequestRefused


class RetryRefused(Exception):
    """It cannot be made once more; the text says why."""


def retry(generation: Generation) -> Generation:
    """A new generation of the same user, which counts for their limits as their own request would.

    Raises `Impossible` with nothing half-created.
    """
    if not generation.is_final:
        raise RetryRefused("it has not ended yet")
    if generation.deleted:
        raise RetryRefused("its picture was deleted")
    wanted = generation.get_parameters()
    if not (generation.input or wanted.image_url):
        raise RetryRefused("it has no picture")
    if (seeds := generation.recipe.get("seeds")) and wanted.seed is None:
        wanted = wanted.model_copy(update={"seed": seeds[0]})
    try:
        picture = Stored(generation, None).read() if generation.input else None
        made = submission.build(
            generation.user,
            generation.token,
            wanted,
            picture,
            request_id=request_ids.current()[:64],
            source_id=generation.source_id,
        )
        return submission.submit(made, picture)
    except (RequestRefused, limits.OverLimit) as refused:
        raise RetryRefused(refused.message) from refused
    except InvalidField as invalid:
        raise RetryRefused(str(invalid)) from invalid
    except limits.QueueFull as full:
        raise RetryRefused("the queue is full") from full
    except (submission.Unavailable, storage.StorageFailed) as error:
        raise RetryRefused("Redis, the database or the storage cannot be reached now") from error
