"""What is sent of this process to others, if a setting says where: spans, and reports of errors."""

import importlib.util

from django.conf import settings


def start() -> None:
    """Record spans and report errors from now on. Raises `SystemExit` if that needs packages that are not installed."""
    if settings.SENTRY_DSN:
        _require("SENTRY_DSN", "sentry_sdk")
        from dreamsite import error_reports

        error_reports.start(settings.SENTRY_DSN)
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        _require("OTEL_EXPORTER_OTLP_ENDPOINT", "opentelemetry.exporter")
        from generation import tracing

        tracing.enable()


def stop() -> None:
    """Send what is left, and end the threads that do so."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from generation import tracing

        tracing.disable()
    if settings.SENTRY_DSN:
        from dreamsite import error_reports

        error_reports.stop()


def _require(setting: str, package: str) -> None:
    """Raise `SystemExit` if this package, which belongs to an extra, is not installed."""
    try:
        is_installed = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        is_installed = False
    if not is_installed:
        raise SystemExit(f"{setting} needs packages that are not installed: pip install 'dreamsite[observability]'.")
