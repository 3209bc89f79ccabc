"""One session of a worker in this process, with a real Redis: stop signals, drain and resume."""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from accounts.models import ApiToken
from generation.broker import queues, workers
from generation.engine.engine import Engine, EngineSettings
from generation.families import Family
from generation.jobs import control
from generation.maintenance import reaper
from generation.models import DiffusionModel, Generation, State, WorkerCommand
from generation.parameters import ErrorCode
from generation.worker.drain import DrainState
from generation.worker.process import WarmWorker, WorkerSession
from tests.support.jobs import submit
from tests.support.lost_device import lost_device
from tests.support.workers import keep_fresh

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


@pytest.fixture
def session(engine: Engine) -> Iterator[WorkerSession]:
    """A registered session. RQ's signal handlers are removed after the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    session = WorkerSession("default", engine, DrainState(), time.time(), "")
    session.send_heartbeat()
    keep_fresh(session.name)
    with session.finisher:
        yield session
    for number, handler in handlers.items():
        signal.signal(number, handler)


def work(session: WorkerSession) -> WarmWorker:
    """Run an RQ worker of the session until it ends or its queues are empty, and what it ran has been finished."""
    worker = WarmWorker(session)
    worker.work(logging_level="WARNING", burst=True)
    session.finisher.wait()
    return worker


def send(session: WorkerSession, action: WorkerCommand.Action) -> None:
    control.send(session.name, action, "", "charlie")


def test_a_stop_signal_between_two_rq_workers_is_not_lost(session: WorkerSession) -> None:
    session.drain_state.request_stop()
    queues.wake_workers("default")
    work(session)
    assert queues.rq_queue("default").count == 1


def test_a_drained_worker_leaves_the_pool_to_others(session: WorkerSession, alices: ApiToken) -> None:
    send(session, WorkerCommand.Action.DRAIN)
    assert work(session).has_wrong_queues
    submit(alices, num_inference_steps="2")
    assert not work(session).has_wrong_queues
    assert Generation.objects.get().state == State.QUEUED
    assert queues.rq_queue("default").count >= 1


def test_a_resumed_worker_needs_no_wake_up_of_its_pool(session: WorkerSession, alices: ApiToken) -> None:
    session.drain()
    submit(alices, num_inference_steps="2")
    # Another worker took the wake-up, and ended before it claimed anything.
    queues.rq_queue("default").delete()
    send(session, WorkerCommand.Action.RESUME)
    assert work(session).has_wrong_queues
    assert Generation.objects.get().state == State.SUCCEEDED
    submit(alices, num_inference_steps="2")
    assert not work(session).has_wrong_queues
    assert list(Generation.objects.values_list("state", flat=True)) == [State.SUCCEEDED, State.SUCCEEDED]


def test_a_request_is_left_to_the_worker_that_has_its_model(session: WorkerSession, alices: ApiToken) -> None:
    """Hosts have disks of their own. What no worker has is claimed, and fails with the reason."""
    DiffusionModel.objects.create(id="someone/missing", family=Family.FLUX, revision="a" * 40, enabled=True)
    generation = submit(alices, model_id="someone/missing")
    session.send_heartbeat()
    (info,) = (info for info in workers.registered() if info.name == session.name)
    assert info.missing == ["someone/missing"]
    workers.heartbeat(replace(info, name="other", missing=[]))
    session.run_pending()
    generation.refresh_from_db()
    assert generation.state == State.QUEUED
    assert queues.rq_queue("default").count >= 1
    workers.remove("other")
    session.run_pending()
    session.finisher.wait()
    generation.refresh_from_db()
    assert (generation.state, generation.error_code) == (State.FAILED, ErrorCode.MODEL_NOT_DOWNLOADED)


def test_a_session_ends_with_its_device_and_the_request_goes_to_another_worker(
    session: WorkerSession, alices: ApiToken
) -> None:
    """No later request of the session would succeed, and each would be told that it failed."""
    first, second = (submit(alices, num_inference_steps="1") for _ in range(2))
    with lost_device(width=0):
        work(session)
    assert session.drain_state.is_stopping
    first.refresh_from_db()
    assert (first.state, first.attempt) == (State.RUNNING, 1)
    reaper.reap()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, first.crash_count, second.state, second.attempt) == (State.QUEUED, 1, State.QUEUED, 0)


def test_a_command_that_loses_the_device_fails_and_ends_the_session(session: WorkerSession) -> None:
    control.send(session.name, WorkerCommand.Action.WARM, "dreamsite/tiny-edit", "charlie")
    with lost_device(width=0):
        work(session)
    assert session.drain_state.is_stopping
    command = WorkerCommand.objects.get()
    assert command.state == WorkerCommand.State.FAILED
    assert "illegal memory access was encountered. The worker starts again." in command.message
