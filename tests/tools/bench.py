"""`make bench`: measure the service's overhead, its device and queue, and the cost of waiting clients, previews and pages.

`python -m tests.tools.bench NAME...` runs single parts.
"""

import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator

import httpx

from tests.support import pictures
from tests.tools import (
    bare_pipeline,
    bench_device,
    bench_growth,
    bench_masks,
    bench_pages,
    bench_peers,
    bench_previews,
    bench_queue,
    bench_waiting,
    bench_watermark,
)
from tests.tools.bench_queue import (
    Measurement,
    request_form,
    temporary_service,
)

ROUNDS = 7
SIDE = 256


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"{', '.join(PARTS)}; default: all")
    names = parser.parse_args().parts
    if "growth" in names:
        names[names.index("growth") : names.index("growth") + 1] = bench_growth.PARTS
    if unknown := set(names) - PARTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for name in names or PARTS:
        for label, value in PARTS[name]():
            print(f"{label:72} {value}", flush=True)  # noqa: T201


def measure_overhead() -> Iterator[Measurement]:
    """Compare a request to the service with a call of the bare pipeline, in alternation.

    The pipeline's speed in two processes can differ by a few percent, which would count as overhead. So the time outside
    the worker's pipeline call is measured as well, from the timings that the worker reports.
    """
    raw = bare_pipeline.load()
    upload = pictures.photo(SIDE, SIDE)
    service_times, bare_times, outside_times, extra_times = [], [], [], []
    with temporary_service(WAIT_SECONDS="600") as service, service.client() as client:
        raw(upload)
        post(client, upload)
        for _ in range(ROUNDS):
            bare_times.append(measure_seconds(lambda: raw(upload)))
            start = time.perf_counter()
            phases = post(client, upload)
            service_times.append(time.perf_counter() - start)
            outside_times.append(service_times[-1] - phases["encoding"] - phases["denoising"] - phases["decoding"])
            extra_times.append(phases["safety"] + phases["storing"])
    bare = statistics.median(bare_times)
    yield f"{bare_pipeline.STEPS} steps at {SIDE} x {SIDE}, the bare pipeline", f"{bare:.3f} s"
    yield "the same through HTTP, queue and worker", f"{statistics.median(service_times):.3f} s"
    overhead = statistics.median(a - b for a, b in zip(service_times, bare_times, strict=True))
    yield "added (aim: under 3 % or 40 ms)", f"{overhead * 1000:.0f} ms, {overhead / bare:.1%}"
    outside = statistics.median(outside_times)
    yield "outside the worker's pipeline call", f"{outside * 1000:.0f} ms, {outside / bare:.1%}"
    yield "of which safety check and storing", f"{statistics.median(extra_times) * 1000:.0f} ms"


def post(client: httpx.Client, upload: bytes) -> dict[str, float]:
    """Send a request, and return the seconds of its phases."""
    form, image = request_form(bare_pipeline.STEPS), {"image": ("a.png", upload)}
    response = client.post("/image-to-image", data=form, files=image, timeout=600)
    record = client.get(f"/generations/{response.raise_for_status().json()['id']}").json()
    phases: dict[str, float] = record["timings"]["phases"]
    return phases


def measure_seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {
    "overhead": measure_overhead,
    "device": bench_device.measure_device,
    "start": bench_queue.measure_start,
    "claims": bench_queue.measure_claims,
    "loss": bench_queue.measure_loss,
    "cancel": bench_queue.measure_cancel,
    "estimates": bench_queue.measure_estimates,
    "waiting": bench_waiting.measure_waiting,
    "crowd": bench_waiting.measure_crowd,
    "previews": bench_previews.measure_previews,
    "masks": bench_masks.measure_masks,
    "watermark": bench_watermark.measure_watermark,
    "unmarked": bench_watermark.measure_unmarked,
    "pages": bench_pages.measure_pages,
    **bench_growth.PARTS,
    "peers": bench_peers.measure_peers,
}

if __name__ == "__main__":
    main()
