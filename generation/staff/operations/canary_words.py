"""What came of canaries, in words."""

from generation.models import Canary, differences

_MOST_NAMED = 4
_LONGEST_VALUE = 40


def words(canary: Canary) -> str:
    """Return what came of a canary that nobody has accepted, in sentences."""
    if canary.problem:
        device = canary.made_with.get("device", "an unknown device")
        return f"The canary of {canary.model_id} failed on {device}: {canary.problem}"
    before = canary.before
    if before is None:
        return f"The pictures of {canary.model_id} changed."
    named = [_change(each) for each in changes(canary)]
    if len(named) > _MOST_NAMED:
        named[_MOST_NAMED:] = [f"and {len(named) - _MOST_NAMED} more"]
    if canary.largest_difference is None:
        size = f"{before.width} × {before.height} to {canary.width} × {canary.height} pixels"
        return f"The size of the pictures of {canary.model_id} changed from {size}: {', '.join(named)}."
    far = f"PSNR {canary.psnr:g} dB, the largest difference is {canary.largest_difference} of 255."
    if not named:
        return (
            f"The pictures of {canary.model_id} changed, though all that makes them is the same: a device or its memory may "
            f"be broken, or it computes differently each time. {far}"
        )
    return f"The pictures of {canary.model_id} changed with {', '.join(named)}. {far}"


def changes(canary: Canary) -> list[dict[str, str | None]]:
    """Return what differs between what made a picture and the one before."""
    return differences(canary.before.made_with, canary.made_with) if canary.before else []


def _change(difference: dict[str, str | None]) -> str:
    then, now = difference["then"] or "none", difference["now"] or "none"
    short = max(len(then), len(now)) <= _LONGEST_VALUE
    return f"{difference['name']} {then} → {now}" if short else str(difference["name"])


def result(canary: Canary) -> str:
    """Return what came of a canary, in a few words."""
    if canary.problem:
        text = "failed"
    elif canary.largest_difference == 0:
        return "the same pixels as before"
    elif canary.accepted and not canary.accepted_by:
        return "the first"
    else:
        text = "changed"
    return f"{text}, accepted by {canary.accepted_by}" if canary.accepted else text
