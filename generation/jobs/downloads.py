"""Which models are downloaded, as their workers report it, and the progress of downloads in words."""

import math

from generation.broker import workers
from generation.models import DOWNLOADS, DiffusionModel, WorkerCommand
from generation.parameters import ErrorCode, Refusal

RETRY_SECONDS = 60
"""When to try again if nothing is known about the download."""

_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 5, 3600
_UNITS = ((1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0))


class NotDownloaded(Refusal):
    """The weights of a model are on no worker's disk."""

    def __init__(self, model: DiffusionModel, download: WorkerCommand | None) -> None:
        retry_after = RETRY_SECONDS
        if download is None:
            message = f"{model} is not downloaded yet. Use another model, or ask the staff to download it."
        else:
            message = f"{model} is being downloaded: {progress(download)}. Try again then, or use another model."
            if download.seconds_left is not None:
                retry_after = min(max(math.ceil(download.seconds_left), _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
        super().__init__(ErrorCode.MODEL_NOT_DOWNLOADED, message, retry_after=retry_after)


def check(model: DiffusionModel) -> None:
    """Raise `NotDownloaded` if no worker of the model's pool has its weights, unless that is unknown. Raises `RedisError`."""
    pool = [info for info in workers.registered() if info.pool == model.pool and not info.is_stale]
    if not pool or any(info.downloaded is None or model.pk in info.downloaded for info in pool):
        return
    downloads = WorkerCommand.objects.opened().filter(action__in=DOWNLOADS, target=model.pk)
    raise NotDownloaded(model, downloads.first())


def progress(command: WorkerCommand) -> str:
    """Write how far a download is: `3.2 of 24.1 GB, about 5 min left`."""
    if not command.total_bytes:
        return "it has not begun" if command.state == WorkerCommand.State.WAITING else "it begins"
    text = amount(command.done_bytes, command.total_bytes)
    if command.seconds_left is None:
        return text
    return f"{text}, about {_duration(command.seconds_left)} left"


def amount(done: int, total: int) -> str:
    """Write a number of bytes and their total: `3.2 of 24.1 GB`."""
    size, unit, digits = next((unit for unit in _UNITS if total >= unit[0]), _UNITS[-1])
    return f"{done / size:.{digits}f} of {total / size:.{digits}f} {unit}"


def _duration(seconds: float) -> str:
    """Write a duration roughly: `40 s`, `5 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
