"""Retry: a new generation with the pictures, the parameters and the seeds of one that is finished."""

from accounts.models import ApiToken
from generation.jobs import submission
from generation.library.stored import stored_inputs
from generation.models import Generation
from generation.parameters import ErrorCode, Refusal


class RetryRefused(Refusal):
    """A generation that cannot be retried."""


def retry(generation: Generation, token: ApiToken | None) -> Generation:
    """Submit a new generation of the same user, which counts against their limits, and return it. It is made anew.

    Raises `RetryRefused`, and any other `Refusal` of a submission.
    """
    if not generation.is_final:
        raise RetryRefused(ErrorCode.NOT_FINISHED, "it has not ended yet")
    if generation.deleted:
        raise RetryRefused(ErrorCode.DELETED, "its picture was deleted")
    parameters = generation.get_parameters()
    if not (generation.input or parameters.image_url):
        raise RetryRefused(ErrorCode.NOT_FOUND, "it has no picture")
    others = [reference.file for reference in generation.references.all()]
    if generation.mask_sha256:
        others.append(generation.mask)
    if not all(others):
        # The picture may be fetched again, but without these the result would be another.
        raise RetryRefused(ErrorCode.NOT_FOUND, "its mask or further pictures were removed")
    if (seeds := generation.recipe.get("seeds")) and parameters.seed is None:
        parameters = parameters.model_copy(update={"seed": seeds[0]})
    inputs = stored_inputs(generation)
    source_id = generation.source_id
    request = submission.Request(generation.user, token, parameters, inputs, source_id=source_id, is_anew=True)
    return submission.submit(submission.build(request), inputs)
