"""OpenTelemetry, which is off unless `enable` is called: a request, its wait in the queue and its run are one trace.

The only module that imports it, and only then, since it is an extra. Spans have ids, names of models and codes, but no words of
users and no addresses.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span

_SCOPE = "dreamsite"
_provider: "TracerProvider | None" = None


def enable(processor: "SpanProcessor | None" = None) -> None:
    """Record spans from now on, and export them as the variables `OTEL_…` say. Tests have a processor of their own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _provider
    resource = Resource.create({"service.name": "dreamsite", **OTELResourceDetector().detect().attributes})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))


def disable() -> None:
    """Export what is left, and record nothing from now on."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
    _provider = None


class RequestSpan:
    """The span of a request while it is served. `traceparent` is what continues it."""

    def __init__(self, span: "Span | None", traceparent: str) -> None:
        self._span = span
        self.traceparent = traceparent

    def answer(self, name: str, status: int, code: str) -> None:
        """Note the answer: the name of the span, the status, and the error code, empty for none."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        self._span.update_name(name)
        self._span.set_attribute("http.response.status_code", status)
        if code:
            self._span.set_attribute("error.type", code)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def request(method: str, request_id: str, traceparent: str) -> Iterator[RequestSpan]:
    """Record the span of a request, which continues the trace of `traceparent`, or begins one if that is empty."""
    if _provider is None:
        yield RequestSpan(None, traceparent)
        return
    from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

    attributes = {"http.request.method": method, "dreamsite.request_id": request_id}
    span = _provider.get_tracer(_SCOPE).start_span(method, _context(traceparent), SpanKind.SERVER, attributes)
    own = span.get_span_context()
    parts = ("00", format_trace_id(own.trace_id), format_span_id(own.span_id), f"{own.trace_flags & 1:02x}")
    try:
        yield RequestSpan(span, "-".join(parts))
    finally:
        span.end()


@dataclass
class Phases:
    """The phases of a run, as they begin; times are in nanoseconds since 1970. The last one ends with the run."""

    start: int = field(default_factory=time.time_ns)
    starts: list[tuple[str, int]] = field(default_factory=list)

    def enter(self, phase: str) -> None:
        """Note the begin of a phase, unless it has begun already."""
        if not self.starts or self.starts[-1][0] != phase:
            self.starts.append((phase, time.time_ns()))


def record_run(
    traceparent: str, accepted: datetime | None, phases: Phases, storing: int | None, attributes: Mapping[str, Any]
) -> None:
    """Record the spans of a run that ends now: its wait since `accepted`, if that is known, the run, and its phases.

    `storing` is when its pictures began to be stored, which each generation of a batch does after the others.
    """
    if _provider is None or not traceparent:
        return
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

    end = time.time_ns()
    tracer, context = _provider.get_tracer(_SCOPE), _context(traceparent)
    if accepted is not None:
        accepted_at = min(int(accepted.timestamp() * 1e9), phases.start)
        tracer.start_span("queue", context, start_time=accepted_at).end(phases.start)
    run = tracer.start_span("run", context, SpanKind.CONSUMER, attributes, start_time=phases.start)
    if "error.type" in attributes:
        run.set_status(StatusCode.ERROR)
    of_engine = [(phase, start) for phase, start in phases.starts if phase != "storing"]
    engine_end = next((start for phase, start in phases.starts if phase == "storing"), end)
    starts = [*of_engine, *([("storing", storing)] if storing else [])]
    for number, (phase, start) in enumerate(starts):
        next_start = starts[number + 1][1] if number + 1 < len(of_engine) else engine_end
        span = tracer.start_span(phase, set_span_in_context(run), start_time=start)
        span.end(end if phase == "storing" else next_start)
    run.end(end)


def _context(traceparent: str) -> "Context":
    """Return the context whose spans continue the trace of this valid `traceparent`; a new one if it is empty."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Its own, not the environment's: that may have several forms, of which one is kept.
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
