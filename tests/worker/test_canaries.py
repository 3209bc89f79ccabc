"""Canaries: a worker with nothing to do makes a fixed request of each model, and its picture is compared with the last one."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image
from pytest_django import Settings

from accounts.models import ApiToken
from generation.engine.engine import Engine, EngineSettings
from generation.engine.receipts import sha256_of
from generation.images import encoding, storage
from generation.jobs import canaries, control
from generation.library import files
from generation.maintenance import file_check
from generation.models import Canary, DiffusionModel, Generation, State, UserShare, differences
from generation.parameters import OutputFormat
from generation.worker.canaries import Canaries, fixed_request
from generation.worker.drain import DrainState
from generation.worker.process import WorkerSession
from tests.support.jobs import submit
from tests.support.tiny_models import save_stable_diffusion

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]

TINY_EDIT = "dreamsite/tiny-edit"


@pytest.fixture(autouse=True)
def _at_once(settings: Settings, tmp_path: Path) -> None:
    """Workers wait for nothing, pictures are small, and the storage is one of this test."""
    settings.CANARY_IDLE_SECONDS = 0
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_ROOT.mkdir()
    DiffusionModel.objects.exclude(pk=TINY_EDIT).update(enabled=False)
    DiffusionModel.objects.update(max_side=128)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return new_engine(tmp_path_factory.mktemp("models"))


def new_engine(models_dir: Path, dtype: str = "float32") -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype=dtype, offline=True))


def run(engine: Engine, name: str = "worker-1") -> bool:
    """Let a worker of the default pool look for a canary that is due, and run it. Return whether there was one."""
    worker = Canaries("default", name, engine)
    worker.look()
    return worker.run_due(lambda: False)


def night_before(canary: Canary, nights: int = 1) -> None:
    """Let a canary have been made so many nights ago."""
    when = timezone.now() - timedelta(days=nights)
    Canary.objects.filter(pk=canary.pk).update(created=when, finished=when)


def stored() -> list[str]:
    return sorted(file.name for file in default_storage.files_below())  # type: ignore[attr-defined]


def test_the_first_picture_of_a_model_is_accepted(engine: Engine) -> None:
    assert run(engine)
    canary = Canary.objects.get()
    assert (canary.model_id, canary.worker, canary.problem, canary.before) == (TINY_EDIT, "worker-1", "", None)
    assert canary.accepted
    assert canary.environment
    assert canary.environment.values["dtype"] == "float32"
    with Image.open(default_storage.open(str(canary.file.name))) as picture:
        assert picture.size == (canary.width, canary.height)
    assert not Canary.objects.unaccepted().exists()
    assert not run(engine), "one of this environment is there"


def test_it_counts_for_nobody(engine: Engine) -> None:
    assert run(engine)
    assert not Generation.objects.exists()
    assert not UserShare.objects.exists()


def test_the_same_picture_of_another_night_replaces_the_last_one(engine: Engine) -> None:
    assert run(engine)
    first = Canary.objects.get()
    night_before(first)
    assert run(engine)
    second = Canary.objects.get()
    assert second != first
    assert (second.largest_difference, second.psnr) == (0, None)
    assert second.accepted
    assert stored() == [second.file.name]
    assert not file_check.check().orphans


@pytest.mark.parametrize(
    ("now", "night"), [("2026-03-05T02:59", "2026-03-04T03:00"), ("2026-03-05T03:00", "2026-03-05T03:00")]
)
def test_a_night_begins_at_three(now: str, night: str) -> None:
    assert canaries._last_night(datetime.fromisoformat(now)) == datetime.fromisoformat(night)


def test_a_change_of_the_environment_waits_to_be_accepted(engine: Engine, tmp_path: Path) -> None:
    assert run(engine)
    first = Canary.objects.get()
    other = new_engine(tmp_path, "bfloat16")
    assert run(other)
    (changed,) = Canary.objects.unaccepted()
    assert changed.before == first
    assert changed.largest_difference
    assert 0 < changed.largest_difference <= 255
    assert changed.psnr
    assert 20 < changed.psnr < 100
    assert differences(first.made_with, changed.made_with) == [{"name": "dtype", "then": "float32", "now": "bfloat16"}]
    assert not run(other)
    assert not run(engine), "what workers of before have made is still there"
    assert stored() == sorted([str(first.file), str(changed.file)])
    night_before(changed)
    assert run(other)
    (again,) = Canary.objects.unaccepted()
    assert (again.before, again.largest_difference) == (first, changed.largest_difference)
    assert canaries.accept(again, "olga")
    assert not canaries.accept(again, "otto")
    night_before(again)
    assert run(other)
    last = Canary.objects.first()
    assert last
    assert (last.before_id, last.largest_difference) == (None, 0), "compared with the accepted one, and replaced it"
    assert not Canary.objects.unaccepted().exists()


def test_a_change_that_was_taken_back_needs_no_attention(engine: Engine, tmp_path: Path) -> None:
    assert run(engine)
    first = Canary.objects.get()
    other = new_engine(tmp_path, "bfloat16")
    assert run(other)
    (changed,) = Canary.objects.unaccepted()
    night_before(first, 2)
    night_before(changed)
    assert run(engine)
    assert not Canary.objects.unaccepted().exists()
    assert len(stored()) == 1
    assert run(other), "its environment has none any more"
    assert Canary.objects.unaccepted().exists()


def test_another_picture_of_the_same_environment_is_a_change(engine: Engine) -> None:
    assert run(engine)
    first = Canary.objects.get()
    night_before(first)
    picture = encoding.decode(storage.read(str(first.file.name)))
    picture.putpixel((3, 3), tuple(255 - value for value in picture.getpixel((3, 3))))  # type: ignore[union-attr]
    name = storage.store("canaries/as-made-by-a-broken-device.png", encoding.encode(picture, OutputFormat.PNG, 100))
    default_storage.delete(str(first.file.name))
    Canary.objects.update(file=name)
    assert run(engine)
    (changed,) = Canary.objects.unaccepted()
    assert changed.before == first
    assert differences(first.made_with, changed.made_with) == []


def test_a_changed_weight_file_is_noticed(tmp_path: Path) -> None:
    model = save_stable_diffusion(tmp_path, "tests/changing")
    DiffusionModel.objects.filter(pk=TINY_EDIT).update(enabled=False)
    DiffusionModel.objects.create(id=model.id, family=model.family, enabled=True, max_side=64, max_steps=2)
    engine = new_engine(tmp_path)
    assert run(engine)
    assert engine.warm_models == [], "it was not loaded before"
    engine.load(model)
    name = "unet/diffusion_pytorch_model.safetensors"
    weights = tmp_path / model.id / name
    before = sha256_of(weights)
    other = save_stable_diffusion(tmp_path / "other", model.id, seed=1)
    (tmp_path / "other" / other.id / name).replace(weights)
    other_engine = new_engine(tmp_path)
    other_engine.load(model)
    assert run(other_engine)
    (changed,) = Canary.objects.unaccepted()
    assert changed.before
    assert differences(changed.before.made_with, changed.made_with) == [
        {"name": name, "then": before, "now": sha256_of(weights)}
    ]


def test_a_size_that_staff_changed_is_told(engine: Engine) -> None:
    assert run(engine)
    night_before(Canary.objects.get())
    DiffusionModel.objects.update(max_side=96)
    assert run(engine)
    (changed,) = Canary.objects.unaccepted()
    assert changed.before
    assert (changed.width, changed.largest_difference, changed.psnr) == (96, None, None)
    assert {"width", "height"} <= {each["name"] for each in differences(changed.before.made_with, changed.made_with)}


def test_a_failure_waits_to_be_accepted_until_it_works_again(tmp_path: Path) -> None:
    model = save_stable_diffusion(tmp_path, "tests/damaged")
    DiffusionModel.objects.filter(pk=TINY_EDIT).update(enabled=False)
    DiffusionModel.objects.create(id=model.id, family=model.family, enabled=True, max_side=64, max_steps=2)
    weights = tmp_path / model.id / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    engine = new_engine(tmp_path)
    assert run(engine)
    (failed,) = Canary.objects.unaccepted()
    assert "could not be loaded" in failed.problem
    assert not failed.file
    assert not run(engine), "it is tried again in the next night"
    weights.write_bytes(content)
    night_before(failed)
    assert run(engine)
    assert not Canary.objects.unaccepted().exists()
    assert not Canary.objects.filter(pk=failed.pk).exists()


def test_a_picture_that_is_gone_is_not_compared_with(engine: Engine) -> None:
    assert run(engine)
    first = Canary.objects.get()
    night_before(first)
    default_storage.delete(str(first.file.name))
    assert run(engine)
    assert not Canary.objects.unaccepted().exists()
    assert len(stored()) == 1


def test_old_environments_are_forgotten_but_the_last_accepted_picture(engine: Engine, tmp_path: Path) -> None:
    assert run(engine)
    first = Canary.objects.get()
    night_before(first, 100)
    other = new_engine(tmp_path, "bfloat16")
    assert run(other)
    assert Canary.objects.filter(pk=first.pk).exists()
    (changed,) = Canary.objects.unaccepted()
    canaries.accept(changed, "olga")
    night_before(changed)
    assert run(other)
    assert not Canary.objects.filter(pk=first.pk).exists()
    assert len(stored()) == 1


def test_one_worker_makes_it(engine: Engine) -> None:
    model = DiffusionModel.objects.get(pk=TINY_EDIT)
    known = engine.known_environment(model.reference())
    job = canaries.claim(model, "worker-1", known)
    assert job
    assert not run(engine, "worker-2")
    canaries.give_up(job)
    assert run(engine, "worker-2")
    assert canaries.claim(model, "worker-1", known) is None, "it was due when this one looked"
    assert Canary.objects.count() == 1


def test_one_whose_worker_was_lost_is_made_again_but_not_for_ever(engine: Engine, settings: Settings) -> None:
    model = DiffusionModel.objects.get(pk=TINY_EDIT)
    known = engine.known_environment(model.reference())
    for _ in range(settings.MAX_ATTEMPTS):
        assert canaries.claim(model, "worker-1", known)
        Canary.objects.update(lease_expires=timezone.now() - timedelta(seconds=1))
    assert not run(engine, "worker-2")
    (failed,) = Canary.objects.unaccepted()
    assert failed.problem == "Workers were lost 3 times while making it; see their logs."
    night_before(failed)
    assert run(engine, "worker-2")
    assert Canary.objects.get().file


def test_a_result_that_comes_too_late_is_dropped(engine: Engine) -> None:
    worker = Canaries("default", "worker-1", engine)

    def lose_lease() -> bool:
        Canary.objects.update(attempt=7)
        return False

    assert worker.look()
    assert worker.run_due(lose_lease)
    assert Canary.objects.get().finished is None
    (staged,) = stored()
    files.sweep(timedelta(0))
    assert stored() == [], staged


def test_it_stops_for_users(engine: Engine) -> None:
    worker = Canaries("default", "worker-1", engine)
    assert worker.look()
    assert worker.run_due(lambda: True)
    assert not Canary.objects.exists()
    assert run(engine), "it is due as before"


def test_a_worker_must_have_had_nothing_to_do_for_a_while(engine: Engine, settings: Settings) -> None:
    settings.CANARY_IDLE_SECONDS = 3600
    worker = Canaries("default", "worker-1", engine)
    assert not worker.look()
    settings.CANARY_IDLE_SECONDS = 0
    assert worker.look()
    settings.CANARY_IDLE_SECONDS = 3600
    worker.note_work()
    assert not worker.run_due(lambda: False)


def test_a_model_that_is_not_loaded_waits_longer(tmp_path: Path, settings: Settings) -> None:
    hour = settings.CANARY_IDLE_SECONDS = 3600.0
    engine = new_engine(tmp_path)
    worker = Canaries("default", "worker-1", engine)
    worker._idle_since = time.monotonic() - 2 * hour
    assert not worker.look()
    engine.load(DiffusionModel.objects.get(pk=TINY_EDIT).reference())
    assert worker.look()
    engine.evict(TINY_EDIT)
    assert not worker.run_due(lambda: False)
    worker._idle_since = time.monotonic() - 11 * hour
    assert worker.look()
    assert worker.run_due(lambda: False)
    assert engine.warm_models == []


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_nothing_starts_beside_work(engine: Engine, alices: ApiToken, state: State) -> None:
    submit(alices)
    Generation.objects.update(state=state)
    assert not run(engine)
    Generation.objects.update(state=State.CANCELED)
    assert run(engine)


def test_a_paused_pool_starts_none(engine: Engine) -> None:
    control.pause("default", "olga")
    assert not run(engine)
    control.resume("default")
    assert run(engine)


@pytest.fixture
def session(engine: Engine) -> Iterator[WorkerSession]:
    session = WorkerSession("default", engine, DrainState(), time.time(), "")
    with session.finisher:
        yield session


def test_a_request_that_arrives_meanwhile_is_made_first(session: WorkerSession, alices: ApiToken) -> None:
    session.look_for_canary()
    generation = submit(alices, num_inference_steps="1")
    session.run_pending()
    session.finisher.wait()
    generation.refresh_from_db()
    assert generation.state == State.SUCCEEDED
    assert Canary.objects.count() <= 1
    assert session._is_needed() is False
    submit(alices, num_inference_steps="1")
    assert session._is_needed()


def test_a_worker_that_noticed_one_runs_it(session: WorkerSession) -> None:
    session.run_pending()
    assert not Canary.objects.exists()
    session.look_for_canary()
    session.run_pending()
    assert Canary.objects.get().file


def test_models_that_fill_in_a_part_get_the_sample_mask() -> None:
    model = DiffusionModel(id="someone/inpainting", family="stable-diffusion-inpaint")
    recipe, picture, mask = fixed_request(model)
    assert mask
    assert mask.size == picture.size
    assert recipe.inpainting
    assert (recipe.seeds, recipe.safety_check) == ((7,), False)


def test_the_steps_that_staff_allow_are_not_exceeded() -> None:
    recipe, _, _ = fixed_request(DiffusionModel(id="someone/model", family="stable-diffusion", max_steps=5))
    assert recipe.num_inference_steps == 5


def test_the_files_go_with_their_model(engine: Engine) -> None:
    assert run(engine)
    model = DiffusionModel.objects.get(pk=TINY_EDIT)
    files.delete_now(canaries.delete_of([model]))
    assert stored() == []
    assert not Canary.objects.exists()
