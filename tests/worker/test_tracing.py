"""A request, its wait, its run and its storing are one trace, without anything that its user wrote."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from accounts.models import ApiToken, User
from dreamsite.asgi import application
from generation import tracing
from generation.engine.engine import Engine, EngineSettings
from generation.jobs import queue
from generation.models import DiffusionModel, Generation, State
from generation.parameters import ErrorCode
from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.execution import run_batch
from tests.support.jobs import submit

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = "a secret birthday party"

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """The finished spans of this test."""
    exporter = InMemorySpanExporter()
    tracing.enable(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.disable()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


def request(token: str, method: str = "POST", path: str = "/image-to-image", **headers: str) -> httpx.Response:
    """Send a request through the whole application, and do not wait for its pictures."""
    form: dict[str, Any] = {
        "data": {"prompt": PROMPT, "num_inference_steps": "2"},
        "files": {"image": ("a", pictures.photo(64, 64))},
    }
    headers = {"Authorization": f"Bearer {token}", "Prefer": "respond-async", **headers}

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers, **(form if method == "POST" else {}))

    return asyncio.run(send())


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return int(span.parent.span_id)


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def test_request_wait_run_and_storing_are_one_trace(
    alices_token: str, engine: Engine, exporter: InMemorySpanExporter
) -> None:
    answer = request(alices_token, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert answer.status_code == 202
    batch = queue.claim("default", "worker-1", {})
    run_batch(batch, engine)
    spans = by_name(exporter)
    web, waited, run = (spans[name] for name in ("POST /image-to-image", "queue", "run"))
    phases = [spans[name] for name in ("loading", "encoding", "denoising", "decoding", "safety", "storing")]
    assert spans.keys() == {span.name for span in (web, waited, run, *phases)}
    assert {trace_id(span) for span in spans.values()} == {TRACE}
    assert parent_of(web) == int(PARENT, 16)
    assert parent_of(waited) == parent_of(run) == span_id(web)
    assert {parent_of(phase) for phase in phases} == {span_id(run)}
    # One after the other, within the run.
    times = [run.start_time, *(time for phase in phases for time in (phase.start_time, phase.end_time)), run.end_time]
    assert all(time is not None for time in times)
    assert times == sorted(times, key=lambda time: time or 0)
    assert waited.end_time == run.start_time
    assert (web.kind, run.kind) == (SpanKind.SERVER, SpanKind.CONSUMER)
    assert web.attributes is not None
    assert web.attributes["http.response.status_code"] == 202
    assert web.attributes["dreamsite.request_id"] == answer.headers["x-request-id"]
    assert run.attributes is not None
    assert run.attributes["dreamsite.generation_id"] == answer.json()["id"]
    assert run.attributes["dreamsite.end"] == State.SUCCEEDED
    assert web.resource.attributes["service.name"] == "dreamsite"
    written = " ".join(span.to_json() for span in spans.values())
    assert PROMPT not in written
    assert alices_token not in written


def test_without_a_trace_of_its_client_a_request_begins_one(alices_token: str, exporter: InMemorySpanExporter) -> None:
    for header in ("", f"00-{TRACE.upper()}-{PARENT}-01"):
        exporter.clear()
        generation_id = request(alices_token, **({"traceparent": header} if header else {})).json()["id"]
        (span,) = exporter.get_finished_spans()
        assert span.parent is None
        row = Generation.objects.get(pk=generation_id)
        assert row.traceparent == f"00-{trace_id(span)}-{span_id(span):016x}-01"


def test_what_the_client_does_not_sample_is_not_recorded(
    alices_token: str, engine: Engine, exporter: InMemorySpanExporter
) -> None:
    request(alices_token, traceparent=f"00-{TRACE}-{PARENT}-00")
    run_batch(queue.claim("default", "worker-1", {}), engine)
    assert exporter.get_finished_spans() == ()
    assert Generation.objects.get().traceparent.startswith(f"00-{TRACE}-")


def test_the_trace_of_the_client_is_kept_without_opentelemetry(alices_token: str) -> None:
    request(alices_token, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert Generation.objects.get().traceparent == f"00-{TRACE}-{PARENT}-01"


def test_spans_are_named_by_routes_and_say_what_was_refused(
    alices_token: str, alice: User, exporter: InMemorySpanExporter
) -> None:
    missing = "00000000-0000-7000-8000-000000000000"
    assert request(alices_token, "GET", f"/generations/{missing}").status_code == 404
    assert request("wrong", "GET", "/models").status_code == 401
    assert request(alices_token, "GET", "/health").status_code == 200
    refused, unknown = exporter.get_finished_spans()
    assert refused.name == "GET /generations/<uuid:generation_id>"
    assert (
        dict(refused.attributes or {}).items() >= {"http.response.status_code": 404, "error.type": "not_found"}.items()
    )
    assert dict(unknown.attributes or {})["error.type"] == "invalid_token"
    assert missing not in refused.to_json()


def test_each_of_a_batch_is_in_its_own_trace(
    alices: ApiToken, engine: Engine, exporter: InMemorySpanExporter, settings: Any
) -> None:
    settings.MAX_BATCH = 4
    DiffusionModel.objects.update(batching_verified="fingerprint")
    others = [f"00-{number:032x}-{PARENT}-01" for number in (1, 2)]
    for traceparent in others:
        row = submit(alices, num_inference_steps="2")
        Generation.objects.filter(pk=row.pk).update(traceparent=traceparent)
    batch = queue.claim("default", "worker-1", {"dreamsite/tiny-edit": "fingerprint"})
    assert len(batch) == 2
    run_batch(batch, engine)
    names: dict[str, list[str]] = {}
    for span in exporter.get_finished_spans():
        names.setdefault(trace_id(span), []).append(span.name)
    assert set(names) == {f"{number:032x}" for number in (1, 2)}
    first, second = names.values()
    assert first == second
    assert "storing" in first


def test_a_run_that_failed_is_an_error_and_a_later_attempt_has_no_wait(
    alices: ApiToken, engine: Engine, exporter: InMemorySpanExporter
) -> None:
    row = submit(alices, num_inference_steps="2")
    Generation.objects.filter(pk=row.pk).update(traceparent=f"00-{TRACE}-{PARENT}-01")
    queue.release(queue.claim("default", "worker-1", {})[0])

    def break_down() -> bool:
        raise RuntimeError(PROMPT)

    run_batch(queue.claim("default", "worker-1", {}), engine, break_down)
    spans = by_name(exporter)
    assert spans.keys() == {"run", "loading"}
    attributes = dict(spans["run"].attributes or {})
    assert (attributes["dreamsite.end"], attributes["error.type"]) == (State.FAILED, ErrorCode.INTERNAL)
    assert not spans["run"].status.is_ok
    assert PROMPT not in spans["run"].to_json()


def test_spans_are_sent_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
        tracing.enable()
        with tracing.request("GET", "request-7", f"00-{TRACE}-{PARENT}-01") as span:
            span.answer("GET /models", 200, "")
        tracing.disable()
        server.shutdown()
    ((path, sent),) = received
    (resource,) = sent.resource_spans
    assert path == "/v1/traces"
    assert {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}[
        "service.name"
    ] == "pictures"
    (found,) = resource.scope_spans[0].spans
    assert (found.name, found.trace_id.hex()) == ("GET /models", TRACE)


def test_nothing_of_the_extra_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    # The client of Redis imports OpenTelemetry's API where it is installed.
    names = ["opentelemetry.exporter.otlp", "sentry_sdk"]
    code = f"import sys, dreamsite.asgi; print([name for name in {names} if name in sys.modules])"
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "SENTRY_DSN": "http://key@127.0.0.1:9/1"}
    for variables, expected in (({}, []), (both, names)):
        environment = {**os.environ, "DATA_DIR": str(tmp_path), **variables}
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert finished.stdout.strip() == str(expected)
