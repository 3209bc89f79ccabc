"""Processes of the shared service that are told to stop, or lose their parent: they finish what they can."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.support.processes import is_alive, outputs, pixels, signal_paused, wait_for_worker
from tests.support.service import Service, post, submit, submit_and_pause, wait_until

PARENT, WEB = "manage.py workers", "manage.py web"


def test_a_stopped_worker_may_finish_its_run(service: Service) -> None:
    """The shared service, whose `DRAIN_SECONDS` are long enough."""
    worker = service.worker()
    generation_id = submit_and_pause(service, worker)
    signal_paused(worker, signal.SIGTERM)
    assert pixels(service, generation_id)
    assert outputs(service, generation_id) == ["1-0-small.webp", "1-0.png"]
    wait_until(lambda: not is_alive(worker), "the worker's end")

    worker = service.worker()
    generation_id = submit_and_pause(service, worker, steps=200, images=2)
    os.kill(worker, signal.SIGCONT)

    def is_released() -> bool:
        """Signals within a second of the first one count as one."""
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)
        return service.state(generation_id) == "queued"

    wait_until(is_released, "the release")
    row = "SELECT attempt, crash_count FROM generation_generation WHERE id = ?"
    assert service.query(row, generation_id.replace("-", "")) == [(1, 0)]
    with service.client() as client:
        client.post(f"/generations/{generation_id}/cancel")
    wait_until(lambda: not is_alive(worker), "the worker's end")
    wait_for_worker(service)


def test_a_worker_whose_parent_is_killed_finishes_its_run(service: Service) -> None:
    parent, worker = service.child(PARENT), service.worker()
    generation_id = submit_and_pause(service, worker)
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not is_alive(parent), "the end of the parent")
    os.kill(worker, signal.SIGCONT)
    assert pixels(service, generation_id)
    assert outputs(service, generation_id) == ["1-0-small.webp", "1-0.png"]
    wait_until(lambda: not is_alive(worker), "the worker's end")
    wait_for_worker(service)
    assert service.child(PARENT) != parent


def test_a_killed_worker_is_forked_again_and_shares_what_its_parent_has_loaded(service: Service) -> None:
    parent, worker = service.child(PARENT), service.worker()
    assert len(list(Path(f"/proc/{parent}/task").iterdir())) == 1
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the worker's end")
    wait_for_worker(service)
    assert pixels(service, submit(service))
    memory = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{service.worker()}/smaps_rollup").read_text(), re.M))
    # The rest is the imported libraries and the weights.
    assert int(memory["Private_Dirty"]) < 0.5 * int(memory["Anonymous"])
    assert service.child(PARENT) == parent


def test_a_stopping_web_process_answers_held_clients_with_202(service: Service) -> None:
    """The shared service, which holds clients for longer than this test takes."""
    web = service.child(WEB)
    with service.paused_worker():
        (before,) = service.query("SELECT count(*) FROM generation_generation")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, service)
            wait_until(lambda: service.query("SELECT count(*) FROM generation_generation") != [before], "the request")
            os.kill(web, signal.SIGTERM)
            assert answer.result().status_code == 202
    assert pixels(service, answer.result().json()["id"])
