"""A batch is judged and stored in a thread while the images of the next one are made."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from django.utils import timezone
from pytest_django import Settings
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import CLIPVisionModel

from accounts.models import ApiToken
from generation.broker import queues
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import DeviceLost
from generation.jobs import queue
from generation.maintenance import reaper
from generation.models import Generation, State
from generation.parameters import ErrorCode
from generation.worker import execution
from generation.worker.drain import DrainState
from generation.worker.finishing import Finisher
from generation.worker.process import WorkerSession
from tests.support.generations import unnamed_files
from tests.support.jobs import claim, expire, submit
from tests.support.lost_device import ERROR
from tests.support.service import WAIT_SECONDS, wait_until
from tests.support.slow_storage import SlowStorage
from tests.support.tiny_models import save_safety_checker

STEPS_OF_A_RUN = 5
"""The calls of `should_release` while images are made in one step: loading, encoding, its begin and end, decoding."""

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


@pytest.fixture
def slow_storage(settings: Settings) -> Iterator[type[SlowStorage]]:
    """The storage of this test. At its end nobody is kept waiting."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": f"{SlowStorage.__module__}.{SlowStorage.__qualname__}"},
    }
    SlowStorage.is_asked.clear()
    SlowStorage.may_go_on.clear()
    yield SlowStorage
    SlowStorage.may_go_on.set()


@pytest.fixture
def finisher(slow_storage: type[SlowStorage]) -> Iterator[Finisher]:
    """A finisher that may store at the end of the test, also of one that fails."""
    losses: list[DeviceLost] = []
    with Finisher(losses.append) as finisher:
        yield finisher
        slow_storage.may_go_on.set()
    assert losses == []


def run(batch: list[Generation], engine: Engine, finisher: Finisher, event: Callable[[int], bool]) -> None:
    """Run a batch; `event` is called at each of its steps with their number, from 0, and returns whether to release it."""
    numbers = iter(range(1000))
    execution.run(batch, engine, lambda: event(next(numbers)), finisher)


def states() -> list[str]:
    return list(Generation.objects.order_by("pk").values_list("state", flat=True))


def submit_two(token: ApiToken) -> None:
    for _ in range(2):
        submit(token, num_inference_steps="1")


def begin_first(engine: Engine, finisher: Finisher) -> Generation:
    """Run the first of the queue until it is about to be stored."""
    first = claim()
    assert first
    run([first], engine, finisher, lambda number: False)
    assert SlowStorage.is_asked.wait(WAIT_SECONDS)
    return first


def test_the_next_images_are_made_while_the_last_ones_are_stored(
    alices: ApiToken, engine: Engine, finisher: Finisher
) -> None:
    submit_two(alices)
    begin_first(engine, finisher)
    second = claim()
    assert second
    made = []

    def go_on_when_made(number: int) -> bool:
        if number == STEPS_OF_A_RUN:
            made.append(states())
            SlowStorage.may_go_on.set()
        return False

    run([second], engine, finisher, go_on_when_made)
    assert made == [[State.RUNNING, State.RUNNING]]
    finisher.wait()
    assert states() == [State.SUCCEEDED, State.SUCCEEDED]
    first, second = Generation.objects.order_by("finished")
    assert first.pk < second.pk
    assert [row.images.count() for row in (first, second)] == [1, 1]
    assert unnamed_files() == []


@pytest.mark.parametrize(
    ("is_stopping", "expected"), [(True, (State.QUEUED, 1, 0, "")), (False, (State.CANCELED, 1, 0, ErrorCode.CANCELED))]
)
def test_a_batch_that_waits_for_the_one_before_it_can_be_released_and_canceled(
    alices: ApiToken, engine: Engine, finisher: Finisher, is_stopping: bool, expected: tuple[object, ...]
) -> None:
    submit_two(alices)
    begin_first(engine, finisher)
    second = claim()
    assert second

    def end_while_it_waits(number: int) -> bool:
        if number < STEPS_OF_A_RUN:
            return False
        if not is_stopping:
            queue.cancel(second)
        return is_stopping

    run([second], engine, finisher, end_while_it_waits)
    second.refresh_from_db()
    assert (second.state, second.attempt, second.crash_count, second.error_code) == expected
    assert Generation.objects.order_by("pk")[0].state == State.RUNNING
    SlowStorage.may_go_on.set()
    finisher.wait()
    assert Generation.objects.order_by("pk")[0].state == State.SUCCEEDED


def test_the_lease_is_renewed_until_a_batch_is_stored(
    alices: ApiToken, engine: Engine, finisher: Finisher, settings: Settings
) -> None:
    settings.LEASE_SECONDS = 0.3
    submit(alices, num_inference_steps="1")
    first = begin_first(engine, finisher)
    expire(first)
    wait_until(lambda: Generation.objects.filter(lease_expires__gt=timezone.now()).exists(), "the renewal")
    SlowStorage.may_go_on.set()
    finisher.wait()
    assert states() == [State.SUCCEEDED]


def test_what_was_lost_while_it_was_stored_is_dropped(alices: ApiToken, engine: Engine, finisher: Finisher) -> None:
    submit(alices, num_inference_steps="1")
    first = begin_first(engine, finisher)
    expire(first)
    reaper.reap()
    assert claim("worker-2")
    SlowStorage.may_go_on.set()
    finisher.wait()
    row = Generation.objects.get()
    assert (row.state, row.attempt, row.worker, row.images.count()) == (State.RUNNING, 2, "worker-2", 0)
    assert unnamed_files() == []


def test_users_at_their_limit_go_on_when_their_last_pictures_are_stored(
    alices: ApiToken, bobs: ApiToken, engine: Engine, finisher: Finisher, settings: Settings
) -> None:
    """What is being stored still counts as running, so the worker that makes the next images finds none of this user."""
    settings.USER_MAX_RUNNING = 1
    submit_two(alices)
    begin_first(engine, finisher)
    assert claim() is None
    queues.rq_queue("default").delete()
    SlowStorage.may_go_on.set()
    finisher.wait()
    assert queues.rq_queue("default").count == 1
    assert claim()


def test_what_lost_a_worker_takes_no_other_batch_with_it(alices: ApiToken, engine: Engine, finisher: Finisher) -> None:
    """It may crash the process again, and three crashes fail a request."""
    submit_two(alices)
    begin_first(engine, finisher)
    second = claim()
    assert second
    second.crash_count = 1
    seen = []

    def go_on_while_it_waits(number: int) -> bool:
        seen.append(states()[0])
        if number == 0:
            SlowStorage.may_go_on.set()
        return False

    run([second], engine, finisher, go_on_while_it_waits)
    assert seen[0] == State.RUNNING
    assert set(seen[-STEPS_OF_A_RUN:]) == {State.SUCCEEDED}
    assert states() == [State.SUCCEEDED, State.SUCCEEDED], "nothing else was begun before it ended"


def test_a_device_that_is_lost_by_the_checker_ends_a_worker_that_waits_for_work(
    alices: ApiToken, tmp_path: Path
) -> None:
    save_safety_checker(tmp_path / "CompVis" / "stable-diffusion-safety-checker", limit=1)
    settings = EngineSettings(models_dir=tmp_path, dtype="float32", offline=True, safety_checker="stable-diffusion")
    session = WorkerSession("default", Engine(settings), DrainState(), 0.0, "")
    submit(alices, num_inference_steps="1")

    def lose(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, CLIPVisionModel):
            raise torch.AcceleratorError(ERROR)

    hook = register_module_forward_pre_hook(lose)
    try:
        with session.finisher:
            session.run_pending()
    finally:
        hook.remove()
    assert session.drain_state.is_stopping
    assert queues.rq_queue(session.name).count == 1
    reaper.reap()
    row = Generation.objects.get()
    assert (row.state, row.crash_count) == (State.QUEUED, 1)


def test_a_worker_that_lost_its_lease_before_it_stored_leaves_no_file(
    alices: ApiToken, engine: Engine, finisher: Finisher, settings: Settings
) -> None:
    """The record of its files is swept while it is kept waiting, such as by a pause of its process."""
    submit(alices, num_inference_steps="1")
    first = begin_first(engine, finisher)
    Generation.objects.filter(pk=first.pk).update(attempt=2, state=State.CANCELED, finished=timezone.now())
    reaper.reap(abandoned=timedelta())
    SlowStorage.may_go_on.set()
    finisher.wait()
    assert unnamed_files() == []
    assert list(Path(settings.MEDIA_ROOT).glob(f"outputs/*/*/*/{first.pk}/*")) == []
