"""`make bench`: what the service adds to the model's own time, and what waiting clients cost, side by side in one run."""

import asyncio
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests import pictures
from tests.environment import ROOT
from tests.service import Service

STEPS = 20
SIDE = 256
CLIENTS = 200
HOLD_SECONDS = 15
API_GUIDANCE = 7.5


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="requests of each kind")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench") as folder, Service(Path(folder), WAIT_SECONDS="600") as service:
        measure_overhead(service, rounds)
    hold = str(HOLD_SECONDS)
    with tempfile.TemporaryDirectory(prefix="bench") as folder, Service(Path(folder), WAIT_SECONDS=hold) as service:
        measure_waiting(service)


def measure_overhead(service: Service, rounds: int) -> None:
    """A request through HTTP, queue and worker against the bare pipeline, taking turns.

    Two processes that do the same differ by a few percent here, which the pairs cannot tell from the service's own work.
    So the time outside the worker's pipeline call is shown too, by its own clock.
    """
    raw = raw_pipeline()
    upload = pictures.photo(SIDE, SIDE)
    with service.client() as client:
        raw(upload)
        post(client, upload)
        through, bare, outside, extras = [], [], [], []
        for _ in range(rounds):
            bare.append(timed(lambda: raw(upload)))
            start = time.perf_counter()
            phases = post(client, upload)
            through.append(time.perf_counter() - start)
            outside.append(through[-1] - phases["encoding"] - phases["denoising"] - phases["decoding"])
            extras.append(phases["safety"] + phases["storing"])
    alone = statistics.median(bare)
    show(f"{STEPS} steps at {SIDE} x {SIDE}, the bare pipeline", f"{alone:.3f} s")
    show("the same through HTTP, queue and worker", f"{statistics.median(through):.3f} s")
    added = statistics.median(a - b for a, b in zip(through, bare, strict=True))
    show("added (aim: under 3 % or 40 ms)", f"{added * 1000:.0f} ms, {added / alone:.1%}")
    without = statistics.median(outside)
    show("outside the worker's pipeline call", f"{without * 1000:.0f} ms, {without / alone:.1%}")
    show("of which safety check and storing", f"{statistics.median(extras) * 1000:.0f} ms")


def measure_waiting(service: Service) -> None:
    """Health, threads and memory of the web process while 200 clients are held."""
    (web,) = service.children("manage.py web")
    asyncio.run(ask_health(service, 50))
    before, memory_before = threads(web), memory(web)
    quiet = asyncio.run(ask_health(service, 100))
    answers, latencies, during, memory_during = asyncio.run(hold_clients(service, web))
    show("threads of the web process, at rest", str(before))
    show(f"threads with {CLIENTS} waiting (aim: under 30)", str(during))
    show("memory added by them (aim: under 60 MB)", f"{(memory_during - memory_before) / 1e6:.0f} MB")
    show("health, median and worst, at rest", f"{statistics.median(quiet):.1f} / {max(quiet):.1f} ms")
    show(
        f"health, median and worst, {CLIENTS} waiting", f"{statistics.median(latencies):.1f} / {max(latencies):.1f} ms"
    )
    show("answers", ", ".join(f"{answers.count(status)} x {status}" for status in sorted(set(answers))))


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
                guidance_scale=1 + 0.23 * (API_GUIDANCE - 1),
                image_guidance_scale=1.5,
                generator=torch.Generator().manual_seed(7),
            ).images[0]

    return run


def post(client: httpx.Client, upload: bytes) -> dict[str, float]:
    """One request; the seconds of its phases."""
    response = client.post("/image-to-image", data=form(STEPS), files={"image": ("a.png", upload)}, timeout=600)
    record = client.get(f"/generations/{response.raise_for_status().json()['id']}").json()
    phases: dict[str, float] = record["timings"]["phases"]
    return phases


def form(steps: int) -> dict[str, str]:
    return {"prompt": "make it night", "seed": "7", "num_inference_steps": str(steps)}


async def ask_health(service: Service, times: int) -> list[float]:
    latencies = []
    async with httpx.AsyncClient(base_url=service.url) as client:
        for _ in range(times):
            start = time.perf_counter()
            (await client.get("/health")).raise_for_status()
            latencies.append(1000 * (time.perf_counter() - start))
            await asyncio.sleep(0.02)
    return latencies


async def hold_clients(service: Service, web: int) -> tuple[list[int], list[float], int, int]:
    """Statuses of the held clients, health latencies meanwhile (ms), threads and bytes of the web process when all wait."""
    limits = httpx.Limits(max_connections=CLIENTS)
    headers = {"Authorization": f"Bearer {service.token}"}
    upload = pictures.photo(128, 128)
    async with httpx.AsyncClient(base_url=service.url, headers=headers, limits=limits, timeout=120) as client:

        async def wait() -> int:
            response = await client.post("/image-to-image", data=form(200), files={"image": ("a.png", upload)})
            return response.status_code

        held = [asyncio.create_task(wait()) for _ in range(CLIENTS)]
        latencies = await ask_health(service, int(HOLD_SECONDS / 2 / 0.03))
        during, memory_during = threads(web), memory(web)
        return list(await asyncio.gather(*held)), latencies, during, memory_during


def threads(process: int) -> int:
    return _status(process, "Threads")


def memory(process: int) -> int:
    """Resident bytes."""
    return 1024 * _status(process, "VmRSS")


def _status(process: int, field: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(what: str, value: str) -> None:
    print(f"{what:60} {value}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
