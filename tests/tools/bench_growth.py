"""Measure how costs grow with sizes, and write the drawings and values into `docs/performance.md`, each part by itself.

Nothing here runs a model: workers are simulated, and what is measured is what the service adds. Other programs on the machine
add to the elapsed time, less to the CPU time, of which the least of several rounds is taken.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tests.tools import growth_page
from tests.tools.bench_growth_clients import measure_clients
from tests.tools.bench_growth_pages import measure_pages
from tests.tools.bench_growth_queue import measure_queue
from tests.tools.bench_growth_workers import measure_workers
from tests.tools.bench_queue import Measurement

PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {
    "growth-queue": partial(growth_page.written, "The queue", ("claims", "queue", "users"), measure_queue),
    "growth-pages": partial(growth_page.written, "Pages", ("pages",), measure_pages),
    "growth-clients": partial(growth_page.written, "Held clients", ("memory", "idle", "events"), measure_clients),
    "growth-workers": partial(growth_page.written, "Workers", ("workers",), measure_workers),
}
"""By name; `growth` is all of them."""
