"""Proofs: a generation is made again in the queue, and its pictures are compared with those of the first time.

A proof is a generation that `proves` another one. It has no words and no files: it is made from the row and the files of the
other, and what it makes is only compared. So it is part of no history, and nothing is left of it to delete.
"""

from accounts import request_ids, traces
from accounts.models import ApiToken, User
from generation.images.inputs import Inputs
from generation.jobs import submission
from generation.library.deletion import without_words
from generation.models import FINAL_STATES, DiffusionModel, Generation, State
from generation.parameters import ErrorCode, Refusal


class ProofRefused(Refusal):
    """A generation that cannot be made again."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.NOT_PROVABLE, message)


def submit(generation: Generation, user: User, token: ApiToken | None = None) -> Generation:
    """Queue a proof for this user, which counts against their limits; return the unfinished one if there is one.

    Raises `ProofRefused`, and any other `Refusal` of a submission.
    """
    _check(generation)
    if unfinished := generation.proofs.filter(user=user).exclude(state__in=FINAL_STATES).first():
        return unfinished
    model = DiffusionModel.objects.allowed_to(user).usable(generation.model_id)
    proof = Generation(
        user=user,
        token=token,
        in_studio=token is None,
        proves=generation,
        model=model,
        pool=model.pool,
        cost=cost(generation, model),
        parameters=without_words(generation.parameters),
        recipe=without_words(generation.recipe),
        request_id=request_ids.current()[: submission.MAX_REQUEST_ID],
        client_request_id=request_ids.of_client(),
        traceparent=traces.current(),
    )
    return submission.submit(proof, Inputs())


def cost(generation: Generation, model: DiffusionModel) -> float:
    """Return what a proof costs: as many pictures as were made in one call, since they may decide the last bits."""
    return generation.get_recipe().cost(model.cost_weight) * _drawn(generation) / generation.image_count


def is_possible(generation: Generation) -> bool:
    """Return whether all is there that a proof needs; prefetch `images` and `references`."""
    try:
        _check(generation)
    except ProofRefused:
        return False
    return True


def _drawn(generation: Generation) -> int:
    beside = generation.places_beside
    return generation.image_count + sum(beside)


def _check(generation: Generation) -> None:
    if generation.state != State.SUCCEEDED:
        raise ProofRefused("It has made no pictures, so there is nothing to compare with; choose one that succeeded.")
    if generation.proves_id:
        raise ProofRefused("It is a proof itself; prove the generation that it is of.")
    if generation.is_removed or not all(image.file for image in generation.images.all()):
        raise ProofRefused("Its pictures were removed, so there is nothing to compare with.")
    inputs = [generation.input, *(reference.file for reference in generation.references.all())]
    if generation.mask_sha256:
        inputs.append(generation.mask)
    if not all(inputs):
        raise ProofRefused("What it was made from was removed, so it cannot be made again.")
