"""Reports of errors to Sentry, or a server with its protocol, with `SENTRY_DSN`: what failed where, and no words or pictures.

What is logged as an error is reported; that includes every unexpected exception. A report has what `scrubbed` lets through and
nothing else, so that an integration or a release of the SDK that collects more changes nothing.
"""

import logging
from typing import Any

import sentry_sdk
from django.conf import settings
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport
from sentry_sdk.utils import BadDsn

from accounts import request_ids, traces

_OWN_LOGGERS = ("accounts", "dreamsite", "generation")
_EVENT = ("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name", "sdk")
_EXCEPTION = ("type", "module", "mechanism")
_FRAME = (
    *("filename", "abs_path", "module", "function", "lineno", "in_app"),
    *("pre_context", "context_line", "post_context"),
)


def start(dsn: str, transport: type[Transport] | None = None) -> None:
    """Report errors of this process from now on. Raises `SystemExit` if `dsn` is not valid."""
    try:
        sentry_sdk.init(
            dsn,
            transport=transport,
            release=settings.VERSION,
            before_send=scrubbed,  # type: ignore[arg-type]
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            # The others patch Django, clients of HTTP and Redis, to collect what is scrubbed anyway.
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[
                LoggingIntegration(level=None, event_level=logging.ERROR, sentry_logs_level=None),
                ExcepthookIntegration(),
                DedupeIntegration(),
                AtexitIntegration(callback=lambda pending, timeout: None),
            ],
        )
    except BadDsn:
        raise SystemExit("SENTRY_DSN is not valid; copy it from the project's settings in Sentry.") from None


def stop() -> None:
    """Send what is left, and report nothing from now on."""
    sentry_sdk.get_client().close()


def scrubbed(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """Return what of an event is reported.

    The text of an exception and the values in a log line may be a user's, such as a prompt that could not be parsed, or be an
    address that needs no token. The ids of the request lead to the log, which has them.
    """
    report = _kept(event, _EVENT)
    ids = {"request_id": request_ids.current(), "trace_id": traces.trace_ids()}
    report["tags"] = {name: value for name, value in ids.items() if value}
    if exceptions := event.get("exception", {}).get("values"):
        report["exception"] = {"values": [_exception(exception) for exception in exceptions]}
    if "logentry" in event and event.get("logger", "").partition(".")[0] in _OWN_LOGGERS:
        # Other packages may put values into the message itself.
        report["logentry"] = _kept(event["logentry"], ("message",))
    return report


def _exception(exception: dict[str, Any]) -> dict[str, Any]:
    frames = (exception.get("stacktrace") or {}).get("frames", [])
    return {
        **_kept(exception, _EXCEPTION),
        "stacktrace": {"frames": [_kept(frame, _FRAME) for frame in frames]},
    }


def _kept(source: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: source[name] for name in names if name in source}
