"""`/ready`: whether all parts of the service are available, and how requests arrive. The ASGI middleware answers `/health`."""

import secrets
from collections.abc import Callable, Iterator

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.signing import BadSignature, TimestampSigner
from django.db import connection
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.broker import workers
from generation.broker.connection import eviction_policy, redis_client
from generation.images import disk
from generation.models import DiffusionModel
from generation.models.schema import pending_migrations

SEEN_SIGNER = TimestampSigner(salt="dreamsite.health.seen_request")
_SEEN_SECONDS = 60


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 if all parts that a request needs are available, else 503 with the missing ones.

    What works, but not as it should, is in `warnings`.
    """
    names = missing()
    if names:
        response = JsonResponse({"status": "NOT READY", "missing": names}, status=503)
        # Django would log an error for each poll while something is missing.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
    found = list(_warnings())
    return JsonResponse({"status": "OK", "warnings": found} if found else {"status": "OK"})


def _warnings() -> Iterator[str]:
    # Not 503: what is lost with evicted keys is made up for, only later.
    if policy := eviction_policy():
        yield f"Redis removes keys when its memory is full: set its maxmemory-policy to noeviction, not {policy}"
    for found in disk.data_disks():
        if found.is_nearly_full:
            yield f"The disk of {found.folder} is nearly full: {found.space}"


@never_cache
@require_safe
def seen_request(request: HttpRequest) -> JsonResponse:
    """Answer how a request arrived, after the proxies on its way; for `manage.py doctor`, which signs its address."""
    try:
        SEEN_SIGNER.unsign(request.GET.get("sign", ""), max_age=_SEEN_SECONDS)
    except BadSignature:
        raise Http404 from None
    return JsonResponse(
        {
            "scheme": request.scheme,
            "host": request.get_host(),
            "path": request.path,
            "address": request.META.get("REMOTE_ADDR", ""),
            "forwarded_for": request.headers.get("X-Forwarded-For", ""),
        }
    )


def missing() -> list[str]:
    """Return the names of the parts that are not available."""
    return [name for name, is_available in CHECKS.items() if not _succeeds(is_available)]


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def _migrations() -> bool:
    # Newer code must wait for `manage.py migrate`; older code goes on beside a newer database.
    return not pending_migrations()


def _redis() -> bool:
    return bool(redis_client().ping())


def _storage() -> bool:
    name = default_storage.save(f"ready/{secrets.token_hex(8)}", ContentFile(b"ready"))
    default_storage.delete(name)
    return True


def _disk() -> bool:
    disk.check()
    return True


def _worker() -> bool:
    default = DiffusionModel.objects.filter(is_default=True, enabled=True).first()
    return any(default is None or worker.pool == default.pool for worker in workers.ready())


CHECKS: dict[str, Callable[[], bool]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "storage": _storage,
    "disk": _disk,
    "worker": _worker,
}


def _succeeds(is_available: Callable[[], bool]) -> bool:
    try:
        return is_available()
    except Exception:  # noqa: BLE001  whatever a driver raises, the part is not available
        return False
