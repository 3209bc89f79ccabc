"""Retry: a new generation with the picture, the parameters and the seeds of one that is finished."""

from generation.jobs import submission
from generation.library.stored import StoredPicture
from generation.models import Generation
from generation.parameters import ErrorCode, Refusal


class RetryRefused(Refusal):
    """A generation that cannot be retried."""


def retry(generation: Generation) -> Generation:
    """Submit a new generation of the same user, which counts against their limits, and return it.

    Raises `RetryRefused`, and any other `Refusal` of a submission.
    """
    if not generation.is_final:
        raise RetryRefused(ErrorCode.NOT_FINISHED, "it has not ended yet")
    if generation.deleted:
        raise RetryRefused(ErrorCode.DELETED, "its picture was deleted")
    parameters = generation.get_parameters()
    if not (generation.input or parameters.image_url):
        raise RetryRefused(ErrorCode.NOT_FOUND, "it has no picture")
    if (seeds := generation.recipe.get("seeds")) and parameters.seed is None:
        parameters = parameters.model_copy(update={"seed": seeds[0]})
    picture = StoredPicture(generation, None).read() if generation.input else None
    request = submission.Request(generation.user, generation.token, parameters, picture, source_id=generation.source_id)
    return submission.submit(submission.build(request), picture)
