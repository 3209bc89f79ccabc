"""`make bench`: what the service adds to the model's own time, how the queue behaves, what clients, previews and pages cost.

`python -m tests.tools.bench NAME...` runs single parts.
"""

import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from tests.support import pictures
from tests.support.environment import ROOT
from tests.tools import (
    bench_pages,
    bench_previews,
    bench_queue,
    bench_waiting,
)
from tests.tools.bench_queue import (
    Line,
    request_form,
    temporary_service,
)

ROUNDS = 7
STEPS = 20
SIDE = 256
API_GUIDANCE = 7.5


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; all when none is named")
    wanted = parser.parse_args().parts
    if unknown := set(wanted) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}")
    for name in wanted or PARTS:
        for what, value in PARTS[name]():
            print(f"{what:72} {value}", flush=True)  # noqa: T201


def measure_overhead() -> Iterator[Line]:
    """A request through HTTP, queue and worker against the bare pipeline, taking turns.

    Two processes that do the same differ by a few percent here, which the pairs cannot tell from the service's own work.
    So the time outside the worker's pipeline call is shown too, by its own clock.
    """
    raw = raw_pipeline()
    upload = pictures.photo(SIDE, SIDE)
    through, bare, outside, extras = [], [], [], []
    with temporary_service(WAIT_SECONDS="600") as service, service.client() as client:
        raw(upload)
        post(client, upload)
        for _ in range(ROUNDS):
            bare.append(timed(lambda: raw(upload)))
            start = time.perf_counter()
            phases = post(client, upload)
            through.append(time.perf_counter() - start)
            outside.append(through[-1] - phases["encoding"] - phases["denoising"] - phases["decoding"])
            extras.append(phases["safety"] + phases["storing"])
    alone = statistics.median(bare)
    yield f"{STEPS} steps at {SIDE} x {SIDE}, the bare pipeline", f"{alone:.3f} s"
    yield "the same through HTTP, queue and worker", f"{statistics.median(through):.3f} s"
    added = statistics.median(a - b for a, b in zip(through, bare, strict=True))
    yield "added (aim: under 3 % or 40 ms)", f"{added * 1000:.0f} ms, {added / alone:.1%}"
    without = statistics.median(outside)
    yield "outside the worker's pipeline call", f"{without * 1000:.0f} ms, {without / alone:.1%}"
    yield "of which safety check and storing", f"{statistics.median(extras) * 1000:.0f} ms"


def raw_pipeline() -> Callable[[bytes], Any]:
    """The stock pipeline with the settings that the worker has: one thread, fp32, channels last."""
    import torch
    from diffusers import StableDiffusionInstructPix2PixPipeline

    from generation.engine.devices import choose_device, choose_dtype

    device = choose_device("auto")
    torch.set_num_threads(1)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        ROOT / "generation" / "engine" / "bundled" / "tiny-edit",
        dtype=choose_dtype("auto", device, faithful_in_bfloat16=True),
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)

    def run(upload: bytes) -> Any:
        with torch.inference_mode():
            return pipeline(
                "make it night",
                image=Image.open(BytesIO(upload)).convert("RGB"),
                num_inference_steps=STEPS,
                guidance_scale=1 + 0.115 * (API_GUIDANCE - 1),
                image_guidance_scale=1.5,
                generator=torch.Generator().manual_seed(7),
            ).images[0]

    return run


def post(client: httpx.Client, upload: bytes) -> dict[str, float]:
    """One request; the seconds of its phases."""
    form, image = request_form(STEPS), {"image": ("a.png", upload)}
    response = client.post("/image-to-image", data=form, files=image, timeout=600)
    record = client.get(f"/generations/{response.raise_for_status().json()['id']}").json()
    phases: dict[str, float] = record["timings"]["phases"]
    return phases


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[], Iterator[Line]]] = {
    "overhead": measure_overhead,
    "start": bench_queue.measure_start,
    "claims": bench_queue.measure_claims,
    "loss": bench_queue.measure_loss,
    "cancel": bench_queue.measure_cancel,
    "estimates": bench_queue.measure_estimates,
    "waiting": bench_waiting.measure_waiting,
    "crowd": bench_waiting.measure_crowd,
    "previews": bench_previews.measure_previews,
    "pages": bench_pages.measure_pages,
}

if __name__ == "__main__":
    main()
