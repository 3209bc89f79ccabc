"""Whether the service can do its work. `/health` (the process lives) is answered by the waiting layer."""

import secrets
from collections.abc import Callable

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.broker import workers
from generation.broker.connection import redis_client
from generation.models import DiffusionModel


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when everything a request needs is there, else 503 naming what is missing."""
    names = missing()
    if names:
        response = JsonResponse({"status": "NOT READY", "missing": names}, status=503)
        # Being asked again and again while something is missing is no error of ours to log.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
    return JsonResponse({"status": "OK"})


def missing() -> list[str]:
    """The names of the parts that are not there."""
    return [name for name, is_there in CHECKS.items() if not _holds(is_there)]


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def _redis() -> bool:
    return bool(redis_client().ping())


def _storage() -> bool:
    name = default_storage.save(f"ready/{secrets.token_hex(8)}", ContentFile(b"ready"))
    default_storage.delete(name)
    return True


def _worker() -> bool:
    default = DiffusionModel.objects.filter(is_default=True, enabled=True).first()
    return any(default is None or worker.pool == default.pool for worker in workers.ready())


CHECKS: dict[str, Callable[[], bool]] = {
    "database": _database,
    "redis": _redis,
    "storage": _storage,
    "worker": _worker,
}


def _holds(is_there: Callable[[], bool]) -> bool:
    try:
        return is_there()
    except Exception:  # noqa: BLE001  whatever a driver raises, the part is not there
        return False
