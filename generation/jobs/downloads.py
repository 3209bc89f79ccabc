"""Refuses requests for models that are not downloaded, as far as the workers have reported it."""

import math

from generation.broker import workers
from generation.models import DOWNLOADS, DiffusionModel, WorkerCommand
from generation.parameters import ErrorCode, Refusal

_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 5, 3600


class NotDownloaded(Refusal):
    """The weights of a model are on no worker's disk."""

    def __init__(self, model: DiffusionModel, download: WorkerCommand | None) -> None:
        retry_after = 0
        if download is None:
            message = f"{model} is not downloaded yet. Use another model, or ask the staff to download it."
        else:
            message = f"{model} is being downloaded: {download.progress}. Try again then, or use another model."
            if download.seconds_left is not None:
                retry_after = min(max(math.ceil(download.seconds_left), _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
        super().__init__(ErrorCode.MODEL_NOT_DOWNLOADED, message, retry_after=retry_after)


def check(model: DiffusionModel) -> None:
    """Raise `NotDownloaded` if all workers of the model's pool have reported it as missing. Raises `RedisError`.

    A model that was enabled a moment ago is in no report yet: a worker fails what it cannot run.
    """
    pool = [info for info in workers.registered() if info.pool == model.pool and not info.is_stale]
    if not pool or any(model.pk not in info.missing for info in pool):
        return
    downloads = WorkerCommand.objects.opened().filter(action__in=DOWNLOADS, target=model.pk)
    raise NotDownloaded(model, downloads.first())
