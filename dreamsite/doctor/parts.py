"""The parts of the service: database, Redis, storage, workers, backups."""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from redis import RedisError
from redis.connection import parse_url

from dreamsite.doctor.findings import Finding, clock
from generation.broker import workers as registry
from generation.broker.connection import eviction_policy, redis_client
from generation.images import certificates
from generation.maintenance.backups import database as dumps
from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.backups.place import Place
from generation.models import DiffusionModel
from generation.models.schema import pending_migrations

CLOCK_SECONDS = 2.0
"""How far apart the clocks of hosts may be: https requests and leases stand that."""
HTTP_CLOCK_SECONDS = 5.0
"""The same where the header Date tells the time: in whole seconds, some time after the request."""

_MIN_POSTGRESQL = 14
_MIN_REDIS = (6, 2)
_HTTP_SECONDS = 10.0
_BUCKET_PROBLEMS = {
    "NoSuchBucket": ("There is no bucket of this name.", "Create it, or correct S3_BUCKET."),
    "InvalidAccessKeyId": ("It does not know the key.", "Correct S3_ACCESS_KEY."),
    "SignatureDoesNotMatch": ("The secret of the key is wrong.", "Correct S3_SECRET_KEY; look at S3_REGION, too."),
    "AccessDenied": ("The key may not do that.", "Let it put, get and delete objects in this bucket."),
    "RequestTimeTooSkewed": ("The clocks are too far apart.", "Set the clock of this machine, such as by chrony."),
}


def database() -> Iterator[Finding]:
    """Whether it can be reached, is of a version that works, and has all migrations."""
    is_sqlite = connection.vendor == "sqlite"
    try:
        connection.ensure_connection()
        pending = pending_migrations()
        is_new = not connection.introspection.table_names()
    except DatabaseError as error:
        advice = "Look at the directory's permissions." if is_sqlite else "Start it, or correct DATABASE_URL."
        yield Finding("database", f"It cannot be reached: {_first_line(error)}", advice)
        return
    yield from _sqlite() if is_sqlite else _postgresql()
    if is_new:
        yield Finding("migrations", "The database is empty; `serve` or `manage.py migrate` creates the tables.")
    elif pending:
        text = f"{len(pending)} are to be run, {pending[0]} first."
        yield Finding("migrations", text, "Run manage.py migrate; `serve` does it at its start.")
    else:
        yield Finding("migrations", "All have been run.")


def _sqlite() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        version = cursor.execute("SELECT sqlite_version()").fetchone()[0]
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    name = connection.settings_dict["NAME"]
    if mode == "wal":
        yield Finding("database", f"SQLite {version}, {name}.")
    else:
        yield Finding(
            "database",
            f"The file system of {name} does not allow SQLite's write-ahead log (mode {mode}).",
            "Move DATA_DIR to a local disk, or use PostgreSQL by DATABASE_URL.",
        )


def _postgresql() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        version, now = cursor.execute("SELECT current_setting('server_version'), clock_timestamp()").fetchone()
    if int(version.split(".")[0]) < _MIN_POSTGRESQL:
        yield Finding("database", f"PostgreSQL {version} is too old.", f"Upgrade it to {_MIN_POSTGRESQL} or newer.")
    else:
        yield Finding("database", f"PostgreSQL {version}.")
    yield clock("PostgreSQL", now, datetime.now(UTC), CLOCK_SECONDS)


def redis() -> Iterator[Finding]:
    """Whether it can be reached, is of a version that works, and keeps what is in it."""
    if settings.REDIS_EMBEDDED and not is_serving():
        yield Finding("redis", "It is started by `serve`, which does not run now.")
        return
    options: dict[str, Any] = parse_url(settings.REDIS_URL)  # type: ignore[no-untyped-call]
    # Not the address itself, which has a password.
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    try:
        version = str(redis_client().info("server")["redis_version"])
        seconds, microseconds = redis_client().time()
        policy = eviction_policy()
    except RedisError as error:
        advice = (
            "Restart `serve`; see redis.log in DATA_DIR."
            if settings.REDIS_EMBEDDED
            else "Start it, or correct REDIS_URL."
        )
        yield Finding("redis", f"That at {where} cannot be used: {_first_line(error)}", advice)
        return
    if tuple(map(int, version.split(".")[:2])) < _MIN_REDIS:
        yield Finding("redis", f"Version {version} is too old.", "Use Redis or Valkey from 6.2 on.")
    elif policy:
        text = f"It removes keys when its memory is full (maxmemory-policy {policy})."
        yield Finding("redis", text, "Set its maxmemory-policy to noeviction.")
    else:
        yield Finding("redis", f"That at {where} answers, version {version}.")
    now = datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)
    yield clock("Redis", now, datetime.now(UTC), CLOCK_SECONDS)


def storage() -> Iterator[Finding]:
    """Whether a file can be written, read by browsers if it is in a bucket, and deleted."""
    where = f"bucket {settings.S3_BUCKET}" if settings.S3_BUCKET else f"directory {settings.MEDIA_ROOT}"
    content = secrets.token_bytes(16)
    try:
        name = default_storage.save(f"ready/{secrets.token_hex(8)}", ContentFile(content))
    except Exception as error:  # noqa: BLE001  whatever the backend raises, the storage cannot be used
        text, advice = _explain(error)
        yield Finding("storage", f"The {where} cannot be written. {text}", advice)
        return
    try:
        if settings.S3_BUCKET:
            yield from _signed_address(name, content)
    finally:
        default_storage.delete(name)
    yield Finding("storage", f"A file was written to the {where} and deleted.")


def _signed_address(name: str, content: bytes) -> Iterator[Finding]:
    """Read a file of the bucket as browsers do."""
    server = settings.S3_PUBLIC_ENDPOINT_URL or settings.S3_OPTIONS["endpoint_url"] or "AWS"
    advice = "Set S3_PUBLIC_ENDPOINT_URL to the address by which browsers reach the bucket."
    try:
        response = httpx2.get(default_storage.url(name), timeout=_HTTP_SECONDS)
    except httpx2.HTTPError as error:
        yield Finding("storage", f"Signed addresses at {server} do not work from here: {_first_line(error)}", advice)
        return
    if response.content == content:
        yield Finding("storage", f"Signed addresses at {server} work.")
    else:
        text = f"Signed addresses at {server} are answered with the status {response.status_code}."
        yield Finding("storage", text, advice)
    if date := response.headers.get("date"):
        yield clock("the bucket", parsedate_to_datetime(date), datetime.now(UTC), HTTP_CLOCK_SECONDS)


def _explain(error: Exception) -> tuple[str, str]:
    """Return in sentences why the storage refused, and what to do."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        return _BUCKET_PROBLEMS.get(code, (_first_line(error), "Look at the S3_ settings and the rights of the key."))
    if settings.S3_BUCKET:
        return _first_line(error), "Look at S3_ENDPOINT_URL and S3_REGION, and whether this machine reaches the server."
    return _first_line(error), "Look at the directory's permissions, and at the room on its disk."


def workers() -> Iterator[Finding]:
    """Whether each pool with an enabled model has a worker that takes work."""
    if settings.REDIS_EMBEDDED and not is_serving():
        yield Finding("workers", "They are started by `serve`, which does not run now.")
        return
    try:
        registered = registry.registered()
        pools = set(DiffusionModel.objects.filter(enabled=True).values_list("pool", flat=True))
    except (RedisError, DatabaseError):
        yield Finding("workers", "Without database and Redis nothing is known of them.")
        return
    for pool in sorted(pools):
        ready = [worker for worker in registered if worker.pool == pool and worker.is_ready]
        if not ready:
            advice = f"Start one: manage.py worker --pool {pool}. If one is drained, resume it in operations."
            yield Finding("workers", f"The pool {pool} has none that takes work.", advice)
        else:
            devices = ", ".join(sorted({worker.device for worker in ready}))
            yield Finding("workers", f"The pool {pool} has {len(ready)} that take work, on {devices}.")
    own = certificates.own_key_name()
    for key, hosts in sorted(registry.by_watermark_key(registered, own).items()):
        text = f"The watermark key here is {own}, that of {', '.join(hosts)} is {key}: neither knows pictures of the other."
        yield Finding("workers", text, registry.SAME_KEY)
    for worker in registered:
        if worker.problem and not worker.is_stale:
            yield Finding(
                "workers", f"{worker.name}: {worker.problem}", "See its log; download the model again, or disable it."
            )


def backups() -> Iterator[Finding]:
    """Whether the place of backups can be used and has one, and the programs for dumps are there."""
    if not settings.BACKUP_TO:
        yield Finding("backups", "BACKUP_TO is not set, so none are made by themselves.")
        return
    try:
        # If it is away, that is a finding of the database's.
        with suppress(DatabaseError):
            dumps.check_programs()
        names = Place(settings.BACKUP_TO, settings.BACKUP_PASSPHRASE).names()
    except BackupFailed as error:
        yield Finding("backups", str(error), "Then try manage.py backup.")
        return
    yield Finding(
        "backups", f"The newest in {settings.BACKUP_TO} is {names[-1]}." if names else "The first is to be made."
    )


def is_serving() -> bool:
    """Return whether `serve` runs on this DATA_DIR."""
    try:
        with (settings.DATA_DIR / "serve.lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0].rstrip('.')}."
