"""All settings of Dreamsite: defaults that environment variables override.

Every variable is listed in docs/settings.md; a test compares the two. All state is in DATA_DIR.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import django_stubs_ext
import environ

from dreamsite import __version__, secret_keys
from dreamsite.host_names import host_names
from dreamsite.mail_server import mail_settings
from generation.asgi.paths import API_PATHS

# Makes Django's generic classes, such as ModelAdmin, accept their type argument at run time.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
# Only wheels have the templates in this package. In a checkout they lie beside manage.py.
_PACKAGED_TEMPLATES = BASE_DIR / "dreamsite" / "templates"
IS_CHECKOUT = not _PACKAGED_TEMPLATES.is_dir()

VERSION = __version__


class _Env(environ.Env):
    """Reports a value that cannot be parsed in one line instead of a traceback."""

    def get_value(self, var: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().get_value(var, *args, **kwargs)
        except (ValueError, TypeError, ZoneInfoNotFoundError):
            raise SystemExit(f"{var}={os.environ.get(var)!r} is not a valid value; see docs/settings.md.") from None


env = _Env()  # type: ignore[no-untyped-call]


def _log_level(name: str) -> str:
    """Return the name of a level, in whatever case, as logging has it. Raises ValueError."""
    if name.upper() not in logging.getLevelNamesMapping():
        raise ValueError
    return name.upper()


def _default_data_dir() -> Path:
    """Return `data` in a checkout, else a directory that is the same wherever a command is started.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    if IS_CHECKOUT:
        return BASE_DIR / "data"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "dreamsite"


def _data_dir() -> Path:
    path = Path(env.str("DATA_DIR", default="") or _default_data_dir()).resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise SystemExit(
            f"DATA_DIR {path} is not writable ({error.strerror}); set DATA_DIR to a directory that is."
        ) from None
    return path


DATA_DIR = _data_dir()
# Signs sessions and cookies; what a fallback has signed still counts.
_shared_key = env.str("SECRET_KEY", default="")
SECRET_KEY = secret_keys.given_or_created("SECRET_KEY", _shared_key, DATA_DIR / "secret_key")
SECRET_KEY_FALLBACKS = [
    secret_keys.checked("A key of SECRET_KEY_FALLBACKS", key) for key in env.list("SECRET_KEY_FALLBACKS", default=[])
]
# The first of these signs addresses of files and event streams. Hosts need not share a second key to agree on them.
_url_key = env.str("URL_SECRET_KEY", default="")
if _url_key:
    URL_SECRET_KEYS = [secret_keys.checked("URL_SECRET_KEY", _url_key)]
elif _shared_key:
    URL_SECRET_KEYS = [SECRET_KEY, *SECRET_KEY_FALLBACKS]
else:
    URL_SECRET_KEYS = [secret_keys.created_once(DATA_DIR / "url_secret_key")]
# Watermarks are written and read with this key. It has nothing to do with the others, which may change.
WATERMARK_KEY = secret_keys.given_or_created(
    "WATERMARK_KEY", env.str("WATERMARK_KEY", default=""), DATA_DIR / "watermark_key"
)
DEBUG = env.bool("DEBUG", default=False)

# Addresses.
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]", *host_names(HOST)])
# The path below which browsers see the site.
URL_PREFIX = env.str("URL_PREFIX", default="").rstrip("/")
FORCE_SCRIPT_NAME = URL_PREFIX or None
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)
# Both bind more than this site: every name below its own, and browsers that have never been here.
HSTS_SUBDOMAINS = env.bool("HSTS_SUBDOMAINS", default=False)
HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    # Monitoring requests it without the proxy.
    SECURE_REDIRECT_EXEMPT = [rf"^{URL_PREFIX}/(ready|metrics)$".replace("^/", "^")]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = HSTS_SUBDOMAINS
    SECURE_HSTS_PRELOAD = HSTS_PRELOAD
    # Django's advice to set them, since that is for whoever runs all names of the domain to decide.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
# The proxies whose X-Forwarded-For and X-Forwarded-Prefix are trusted. A proxy that serves HTTPS usually runs on the same host.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=["127.0.0.1", "::1"] if HTTPS else [])
# Whom to tell about a vulnerability: addresses such as mailto:security@example.org, in /.well-known/security.txt.
SECURITY_CONTACT = env.list("SECURITY_CONTACT", default=[])
# Where browsers find the site, for links in mails.
SITE_URL = env.str("SITE_URL", default="").rstrip("/")
# What the site calls itself and looks like.
SITE_NAME = env.str("SITE_NAME", default="Dreamsite").strip()
SITE_LOGO = env.str("SITE_LOGO", default="")
SITE_ACCENT = env.str("SITE_ACCENT", default="")
# Who may read `/metrics`: whoever has the token, and the addresses of these networks.
_metrics_token = env.str("METRICS_TOKEN", default="")
METRICS_TOKEN = secret_keys.checked("METRICS_TOKEN", _metrics_token) if _metrics_token else ""
METRICS_NETWORKS = env.list("METRICS_NETWORKS", default=[])
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "generation.staff.apps.StaffConfig",
    "django.contrib.humanize",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "accounts.apps.SignInFailuresConfig",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "dreamsite.apps.DreamsiteConfig",
    "accounts.apps.AccountsConfig",
    "generation.apps.GenerationConfig",
]
MIDDLEWARE = [
    "dreamsite.url_prefix.cookie_path_middleware",
    "generation.pages.security_headers.security_headers_middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.security_log.security_log_middleware",
    "accounts.audit_middleware.audit_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "generation.asgi.callers.caller_middleware",
    "generation.pages.refused_bodies.refused_body_middleware",
]
# Other origins whose pages may use the API and read its pictures. Without any there is no CORS middleware, since it would
# answer preflights.
CORS_ORIGINS = env.list("CORS_ORIGINS", default=[])
if CORS_ORIGINS:
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")
    CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ORIGINS
    CORS_ALLOWED_ORIGINS = [] if CORS_ALLOW_ALL_ORIGINS else CORS_ORIGINS
    CORS_URLS_REGEX = f"{API_PATHS}|/media/"
    CORS_ALLOW_METHODS = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"]
    # A `*` stands for all headers but Authorization, in requests without cookies: https://fetch.spec.whatwg.org/#cors-protocol.
    CORS_ALLOW_HEADERS = ["authorization", "*"]
    CORS_EXPOSE_HEADERS = ["*"]
ROOT_URLCONF = "dreamsite.urls"
ASGI_APPLICATION = "dreamsite.asgi.application"
# `/image-to-image` and `/image-to-image/` are both routes, since a redirect would change a client's POST to a GET.
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates" if IS_CHECKOUT else _PACKAGED_TEMPLATES],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["dreamsite.templatetags.brand"],
        },
    },
]

# Database: SQLite in DATA_DIR, or DATABASE_URL (PostgreSQL).
DATABASE_URL = env.str("DATABASE_URL", default="") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(DATABASE_URL)}  # type: ignore[no-untyped-call]
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Writers wait instead of failing, as they would if a read lock could not be upgraded to a write lock.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=ON;",
    }
    # A file, since the tests' threads and processes need the same database.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
else:
    # The pool of a process: for Django's threads and a few more. Options of the URL, such as sslmode, stay.
    # Idle connections are closed soon, so that few are dead after a restart of the database: a request skips dead
    # connections, but waits longer after each.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": 20,
        "max_idle": 5.0,
        "timeout": 5.0,
    }
    DATABASES["default"] |= {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis: the embedded server's socket in DATA_DIR, or REDIS_URL.
REDIS_SOCKET = DATA_DIR / "redis.sock"
REDIS_URL = env.str("REDIS_URL", default="")
REDIS_EMBEDDED = not REDIS_URL
REDIS_URL = REDIS_URL or f"unix://{REDIS_SOCKET}"
if REDIS_EMBEDDED and len(os.fsencode(REDIS_SOCKET)) > 100:
    # The kernel's limit for the path of a unix socket is 108 bytes, 104 on macOS.
    raise SystemExit(
        f"DATA_DIR {DATA_DIR} is too long for the socket in it; set DATA_DIR to a path of at most 85 bytes."
    )
# Each process caches the numbers of staff pages and forecasts.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
POOLS = env.list("POOLS", default=["default"])

# Files: DATA_DIR/media behind signed URLs, or an S3 bucket behind presigned ones.
URL_EXPIRY_SECONDS = env.int("URL_EXPIRY_SECONDS", default=7 * 24 * 3600)
IMAGE_URLS = env.str("IMAGE_URLS", default="signed")
FETCH_IMAGE_URLS = env.bool("FETCH_IMAGE_URLS", default=False)
MEDIA_ROOT = DATA_DIR / "media"
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "generation.pages.unnamed_uploads.UnnamedFileUploadHandler",
]
# nginx sends them, and belongs to the group.
X_ACCEL_REDIRECT = env.bool("X_ACCEL_REDIRECT", default=False)
FILE_UPLOAD_PERMISSIONS = 0o640 if X_ACCEL_REDIRECT else 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750 if X_ACCEL_REDIRECT else 0o700
S3_BUCKET = env.str("S3_BUCKET", default="")
S3_PUBLIC_ENDPOINT_URL = env.str("S3_PUBLIC_ENDPOINT_URL", default="")
# How buckets are reached; all but the name of the bucket.
S3_OPTIONS: dict[str, Any] = {
    "endpoint_url": env.str("S3_ENDPOINT_URL", default="") or None,
    "public_endpoint_url": S3_PUBLIC_ENDPOINT_URL,
    "region_name": env.str("S3_REGION", default="us-east-1"),
    "access_key": env.str("S3_ACCESS_KEY", default="") or None,
    "secret_key": env.str("S3_SECRET_KEY", default="") or None,
    "addressing_style": env.str("S3_ADDRESSING_STYLE", default="auto"),
    "querystring_auth": True,
    "querystring_expire": URL_EXPIRY_SECONDS,
    "default_acl": None,
    "file_overwrite": True,
    # Larger ones are read from a temporary file.
    "max_memory_size": 256 * 1024,
}
_default_storage: dict[str, Any] = {"BACKEND": "generation.images.storage.SignedFileSystemStorage"}
if S3_BUCKET:
    _default_storage = {
        "BACKEND": "generation.images.s3.SharedS3Storage",
        "OPTIONS": {"bucket_name": S3_BUCKET, **S3_OPTIONS},
    }
STORAGES = {
    "default": _default_storage,
    "staticfiles": {"BACKEND": "dreamsite.url_prefix.PrefixedStaticFilesStorage"},
}
# Backups: where the reaper keeps them, how many, and how often it makes one.
_backup_to = env.str("BACKUP_TO", default="")
# As `manage.py backup` names it: the rows of backups, and the lease of that which is made, are of one place.
BACKUP_TO = str(Path(_backup_to).resolve()) if _backup_to.startswith("/") else _backup_to.rstrip("/")
BACKUP_HOURS = env.float("BACKUP_HOURS", default=24.0)
BACKUP_KEEP = env.int("BACKUP_KEEP", default=7)
BACKUP_PASSPHRASE = env.str("BACKUP_PASSPHRASE", default="")
STATIC_URL = "/static/"
# Served from the source directories, so that collectstatic is not needed.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# The API.
CONNECTIONS_PER_ADDRESS = env.int("CONNECTIONS_PER_ADDRESS", default=256)
WAIT_SECONDS = env.float("WAIT_SECONDS", default=50.0)
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=20 * 1024 * 1024)
MAX_UPLOAD_PIXELS = env.int("MAX_UPLOAD_PIXELS", default=50_000_000)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_UPLOAD_BYTES
# The fields limit the length of texts; this limits the number of parts before they are read.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.MultiPartParser", "rest_framework.parsers.FormParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "generation.api.errors.answer_exception",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": SITE_NAME,
    "DESCRIPTION": (
        "A self-hosted image-to-image service, wire-compatible with Livepeer's AI gateway: post a picture and a prompt, "
        "get pictures back.\n\nEvery call needs an API token: `Authorization: Bearer dream_…`. The body of an error is "
        "a list of wrong fields for status 422, and a message with a `code` for all others."
    ),
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "TAGS": [
        {"name": "generate", "description": "Generate pictures."},
        {"name": "generations", "description": "Your requests and their pictures."},
        {"name": "models", "description": "The models and LoRAs that you may use."},
    ],
    "SORT_OPERATIONS": False,
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
    "POSTPROCESSING_HOOKS": ["generation.api.openapi.complete"],
}

# Accounts.
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SIGN_UP = env.bool("SIGN_UP", default=False)
# A day, from an address; from its network five times as many.
SIGN_UP_ATTEMPTS = env.int("SIGN_UP_ATTEMPTS", default=20)
PASSWORD_RESET_ATTEMPTS = env.int("PASSWORD_RESET_ATTEMPTS", default=20)
PASSWORD_RESET_TIMEOUT = 3600
# django-axes locks sign-in for a while after too many wrong passwords.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = env.int("SIGN_IN_FAILURES", default=10)
AXES_ENABLED = AXES_FAILURE_LIMIT > 0
AXES_COOLOFF_TIME = timedelta(minutes=env.float("SIGN_IN_MINUTES", default=15.0))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_PARAMETERS = "accounts.lockout.lockout_parameters"
AXES_CLIENT_IP_CALLABLE = "accounts.lockout.address"
AXES_LOCKOUT_CALLABLE = "accounts.lockout.lockout_response"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"

# Mail.
EMAIL_URL = env.str("EMAIL_URL", default="")
globals().update(mail_settings(EMAIL_URL))
EMAIL_TIMEOUT = 10
EMAIL_FROM = env.str("EMAIL_FROM", default="")
EMAIL_NOTICES = env.list("EMAIL_NOTICES", default=["tokens", "exports", "alerts"])

# Workers and the engine. Where WORKERS or THREADS is 0, `dreamsite.worker_setup` decides by the GPUs and cores of the machine.
WORKERS = env.int("WORKERS", default=0)
THREADS = env.int("THREADS", default=0)
DEVICE = env.str("DEVICE", default="auto")
DTYPE = env.str("DTYPE", default="auto")
MODELS_DIR = Path(env.str("MODELS_DIR", default=str(DATA_DIR / "models"))).resolve()
MODELS_OFFLINE = env.bool("MODELS_OFFLINE", default=False)
SAFETY_CHECKER = env.str("SAFETY_CHECKER", default="opennsfw")
SAFETY_THRESHOLD = env.float("SAFETY_THRESHOLD", default=0.0) or None

# Whether clients may leave out the check: optional or required.
SAFETY_CHECK = env.str("SAFETY_CHECK", default="optional")

# Review. The shares of unflagged and of unchecked pictures that reviewers see, 0 to 1; who gets the pictures that they confirm.
REVIEW_SAMPLE = env.float("REVIEW_SAMPLE", default=0.01)
REVIEW_UNCHECKED_SAMPLE = env.float("REVIEW_UNCHECKED_SAMPLE", default=0.05)
CONFIRMED_PICTURES = env.str("CONFIRMED_PICTURES", default="owner")

# Whether results carry a watermark. Staff can switch it off for single models.
WATERMARK = env.bool("WATERMARK", default=True)

# Content credentials: signed manifests in every picture that is sent, of C2PA. Without the files, key and certificates are the
# site's own, which follow from WATERMARK_KEY.
CONTENT_CREDENTIALS = env.bool("CONTENT_CREDENTIALS", default=True)
C2PA_CERTIFICATES = env.str("C2PA_CERTIFICATES", default="")
C2PA_PRIVATE_KEY = env.str("C2PA_PRIVATE_KEY", default="")
C2PA_TIMESTAMP_URL = env.str("C2PA_TIMESTAMP_URL", default="")

# Leases, in seconds: how long a claim lasts without renewal, and how long a run without progress is renewed.
LEASE_SECONDS = env.float("LEASE_SECONDS", default=15.0)
STALL_SECONDS = env.float("STALL_SECONDS", default=300.0)
MAX_ATTEMPTS = 3
# Seconds that a stopping worker may finish its work, and that any request may run.
DRAIN_SECONDS = env.float("DRAIN_SECONDS", default=60.0)
MAX_SECONDS = env.float("MAX_SECONDS", default=3600.0)
# Whether a request that repeats an earlier one of its user, seed included, is answered with the pictures that are kept.
REUSE_RESULTS = env.bool("REUSE_RESULTS", default=True)
# Canaries: whether workers make a fixed request of each model in every new environment and every night, to notice changes
# of its pictures; and for how many seconds they must have had nothing to do before.
CANARIES = env.bool("CANARIES", default=True)
CANARY_IDLE_SECONDS = env.float("CANARY_IDLE_SECONDS", default=60.0)
# Pictures of different requests in one batch. On a CPU, a batch is not faster than its pictures one by one.
MAX_BATCH = env.int("MAX_BATCH", default=1)

# Limits. 0 is no limit. Staff can override them for a user in the admin, and LIMITS=off removes all.
LIMITS = env.bool("LIMITS", default=True)
USER_MAX_RUNNING = env.int("USER_MAX_RUNNING", default=4)
USER_MAX_QUEUED = env.int("USER_MAX_QUEUED", default=100)
USER_MAX_PER_MINUTE = env.int("USER_MAX_PER_MINUTE", default=60)
# Of an address, since no account is needed.
VERIFICATIONS_PER_MINUTE = env.int("VERIFICATIONS_PER_MINUTE", default=10)
USER_MAX_DAILY_COST = env.float("USER_MAX_DAILY_COST", default=5000.0)
USER_MAX_BYTES = env.int("USER_MAX_BYTES", default=8 * 1024**3)
MAX_QUEUE = env.int("MAX_QUEUE", default=1000)
# The share of a disk that must be free, 0 to 1. Below it requests are refused, below half of it workers start nothing.
MIN_FREE_DISK = env.float("MIN_FREE_DISK", default=0.02)
# Seconds that a request may wait before the operations page reports it.
QUEUE_TARGET_SECONDS = env.float("QUEUE_TARGET_SECONDS", default=120.0)

LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "dreamsite.formats"
TIME_ZONE = str(env.get_value("TIME_ZONE", cast=ZoneInfo, default="UTC"))
USE_TZ = True
SECURITY_LOG = env.str("SECURITY_LOG", default="")
_security_handler: dict[str, Any] = {"class": "logging.StreamHandler", "formatter": "security"}
if SECURITY_LOG:
    # Notices when another program has moved the file away, and begins a new one.
    _security_handler |= {"class": "logging.handlers.WatchedFileHandler", "filename": SECURITY_LOG, "delay": True}
# Lines for people, or JSON for programs.
LOG_FORMAT = env.str("LOG_FORMAT", default="line")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "accounts.request_ids.AddRequestId"}},
    "formatters": {
        "line": {"format": "{asctime} {levelname} [{request_id}] {name}: {message}", "style": "{"},
        "json": {"()": "accounts.json_log.JsonFormatter"},
        "security": {"()": "accounts.security_log.JsonLines"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "json" if LOG_FORMAT == "json" else "line",
            "filters": ["request_id"],
        },
        "security": _security_handler,
    },
    # Errors of clients are in their responses; only the service's own failures are logged.
    "loggers": {
        "django.request": {"level": "ERROR"},
        "dreamsite.security": {"level": "INFO", "handlers": ["security"], "propagate": False},
        "axes": {"level": "ERROR"},
        "uvicorn.error": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL", "propagate": False},
    },
    "root": {"handlers": ["console"], "level": env.get_value("LOG_LEVEL", cast=_log_level, default="WARNING")},
}

# With the extra `observability`: where spans and reports of errors are sent. Without a value nothing of it is imported.
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")
SENTRY_DSN = env.str("SENTRY_DSN", default="")
