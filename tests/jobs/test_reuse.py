"""A request that repeats an earlier one of its user, seed included, is answered with the pictures that are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from pytest_django import Settings

from accounts.models import ApiToken, User
from generation.engine.engine import Engine, EngineSettings
from generation.images import storage
from generation.jobs import limits, retry
from generation.library import deletion
from generation.maintenance import reaper
from generation.models import DiffusionModel, Environment, GeneratedImage, Generation, State, UserQueue, UserShare
from generation.models.review import Review
from generation.moderation import review
from generation.parameters import ErrorCode
from tests.support.execution import run_batch
from tests.support.generations import existing, files_of, unnamed_files
from tests.support.jobs import claim, submit, submit_anew
from tests.support.workers import register_worker

FIELDS = {"seed": "7", "num_inference_steps": "1"}

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


@pytest.fixture
def announce(engine: Engine) -> Callable[..., None]:
    """Register a worker with this engine, or another one, as its heartbeat would."""

    def announce(other: Engine = engine, **fields: Any) -> None:
        digests = {model: Environment.objects.digest(values) for model, values in other.environments.items()}
        register_worker(**{"environments": digests, "loras": other.loaded_loras, **fields})

    return announce


@pytest.fixture
def made(alices: ApiToken, engine: Engine, announce: Callable[..., None]) -> Generation:
    """A request that was made, and a worker that would make the same."""
    generation = make(alices, engine)
    announce()
    return generation


def make(token: ApiToken, engine: Engine, **fields: str) -> Generation:
    submit_anew(token, **FIELDS | fields)
    generation = claim()
    assert generation
    run_batch([generation], engine)
    generation.refresh_from_db()
    assert generation.state == State.SUCCEEDED
    return generation


def repeat(token: ApiToken, **fields: str) -> Generation:
    generation = submit(token, **FIELDS | fields)
    return Generation.objects.get(pk=generation.pk)


def contents(generation: Generation) -> list[bytes]:
    return [storage.read(str(image.file.name)) for image in generation.images.all()]


def test_it_is_answered_at_once_at_no_cost(alices: ApiToken, made: Generation) -> None:
    usage = UserShare.objects.get(user=alices.user).decayed_usage
    again = repeat(alices)
    assert (again.state, again.reused_from, again.cost, again.attempt) == (State.SUCCEEDED, made, 0, 0)
    assert again.pk != made.pk
    assert contents(again) == contents(made)
    assert (again.receipt, again.output_bytes) == (made.receipt, made.output_bytes)
    assert again.started
    assert again.finished
    assert claim() is None
    assert UserShare.objects.get(user=alices.user).decayed_usage == usage
    assert UserQueue.objects.count() <= 1
    assert unnamed_files() == []
    first, second = made.images.get(), again.images.get()
    for name in ("index", "seed", "width", "height", "nsfw", "nsfw_score", "checker", "threshold", "watermark"):
        assert getattr(first, name) == getattr(second, name)


def test_each_can_be_deleted_alone(alices: ApiToken, made: Generation) -> None:
    again, third = repeat(alices), repeat(alices)
    assert len({*files_of(made), *files_of(again), *files_of(third)}) == 12
    assert deletion.delete(made)
    reaper.reap()
    assert existing(files_of(again)) == files_of(again)
    assert deletion.delete(again)
    assert existing(files_of(third)) == files_of(third)


def test_a_random_seed_that_was_told_is_answered(
    alices: ApiToken, engine: Engine, announce: Callable[..., None]
) -> None:
    made = make(alices, engine, seed="-1")
    announce()
    again = repeat(alices, seed=str(made.recipe["seeds"][0]))
    assert again.reused_from == made
    assert not any("seed" in warning for warning in again.warnings)
    for seed in ("", "-1"):
        assert submit(alices, num_inference_steps="1", seed=seed).reused_from is None


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": "8"},
        {"prompt": "make it winter"},
        {"num_inference_steps": "2"},
        {"num_images_per_prompt": "2"},
        {"output_format": "jpeg"},
        {"safety_check": "false"},
        {"loras": '{"dreamsite/knitted": 1}'},
    ],
)
def test_another_recipe_is_made(alices: ApiToken, made: Generation, fields: dict[str, str]) -> None:
    from generation.models import Lora

    if "loras" in fields:
        lora, _ = Lora.objects.get_or_create(id="dreamsite/knitted", defaults={"enabled": True})
        DiffusionModel.objects.get().loras.add(lora)
    assert repeat(alices, **fields).reused_from is None


def test_what_decides_no_pixels_may_differ(alices: ApiToken, made: Generation) -> None:
    assert repeat(alices, output_quality="10", response_format="data", priority="low").reused_from == made


def test_the_quality_of_a_png_decides_nothing_but_that_of_a_jpeg_does(
    alices: ApiToken, engine: Engine, made: Generation
) -> None:
    jpeg = make(alices, engine, output_format="jpeg", output_quality="50")
    assert repeat(alices, output_format="jpeg", output_quality="50").reused_from == jpeg
    assert repeat(alices, output_format="jpeg", output_quality="51").reused_from is None


def test_warnings_of_the_run_are_told_again(alices: ApiToken, engine: Engine, announce: Callable[..., None]) -> None:
    long = " ".join(["night"] * 200)
    made = make(alices, engine, prompt=long, strength="0.5")
    announce()
    assert made.run_warnings == 1
    again = repeat(alices, prompt=long)
    assert again.reused_from == made
    assert any("strength" in warning for warning in made.warnings)
    assert again.warnings == make(alices, engine, prompt=long).warnings
    assert made.warnings[-1] in again.warnings


def test_only_the_same_user_is_answered(bobs: ApiToken, made: Generation) -> None:
    assert repeat(bobs).reused_from is None


def test_one_that_is_asked_anew_is_made(alices: ApiToken, made: Generation, settings: Settings) -> None:
    assert submit_anew(alices, **FIELDS).state == State.QUEUED
    assert retry.retry(made, None).state == State.QUEUED
    settings.REUSE_RESULTS = False
    assert submit(alices, **FIELDS).state == State.QUEUED


def test_without_a_worker_that_has_the_same_it_is_made(
    alices: ApiToken, engine: Engine, announce: Callable[..., None], tmp_path: Path
) -> None:
    made = make(alices, engine)
    assert repeat(alices).reused_from is None
    other = Engine(EngineSettings(models_dir=tmp_path, dtype="bfloat16", offline=True))
    other.load(DiffusionModel.objects.get().reference())
    announce(other)
    assert repeat(alices).reused_from is None
    announce(is_drained=True)
    assert repeat(alices).reused_from is None
    announce(name="here-2")
    assert repeat(alices).reused_from == made


@pytest.mark.parametrize("event", ["trash", "delete", "lose", "confirm", "quarantine", "escalate", "unmark", "forget"])
def test_what_is_not_as_it_was_is_made(
    alices: ApiToken, charlie: User, made: Generation, settings: Settings, event: str
) -> None:
    image = made.images.get()
    match event:
        case "trash":
            deletion.trash(Generation.objects.all())
        case "delete":
            assert deletion.delete(made)
        case "lose":
            default_storage.delete(str(image.thumbnail.name))
        case "confirm":
            review.decide(image, charlie, Review.CONFIRMED, "nudity", "")
        case "quarantine":
            GeneratedImage.objects.update(original=image.file.name)
        case "escalate":
            review.decide(image, charlie, Review.ESCALATED, "", "")
        case "unmark":
            settings.WATERMARK = False
        case "forget":
            Generation.objects.update(environment=None)
    assert repeat(alices).reused_from is None


def test_it_is_judged_as_if_it_were_new(
    alices: ApiToken, engine: Engine, announce: Callable[..., None], settings: Settings
) -> None:
    settings.REVIEW_SAMPLE = 1.0
    made = make(alices, engine)
    announce()
    GeneratedImage.objects.update(threshold=0.0, nsfw=False, review=Review.SAFE)
    again = repeat(alices)
    assert again.reused_from == made
    image = again.images.get()
    assert (image.nsfw, image.review, again.is_flagged) == (True, Review.WAITING, True)


def test_it_counts_as_a_request_but_needs_no_place_in_the_queue(
    alices: ApiToken, alice: User, made: Generation, settings: Settings
) -> None:
    settings.LIMITS = True
    alice.max_queued, alice.max_daily_cost, settings.MAX_QUEUE = 0, 0.0, 1
    alice.save()
    assert repeat(alices).reused_from == made
    alice.max_per_minute = 1
    alice.save()
    with pytest.raises(limits.OverLimit) as refused:
        submit(alices, **FIELDS)
    assert refused.value.code == ErrorCode.TOO_MANY_REQUESTS
    alice.max_per_minute, alice.max_bytes = None, made.input_bytes + made.output_bytes
    alice.save()
    with pytest.raises(limits.OverLimit) as refused:
        submit(alices, **FIELDS)
    assert refused.value.code == ErrorCode.STORAGE_EXCEEDED
    assert unnamed_files() == []


def test_a_lora_that_is_loaded_is_the_same(alices: ApiToken, engine: Engine, announce: Callable[..., None]) -> None:
    from generation.models import Lora

    lora, _ = Lora.objects.get_or_create(id="dreamsite/knitted", defaults={"enabled": True})
    DiffusionModel.objects.get().loras.add(lora)
    fields = {"loras": '{"dreamsite/knitted": 1}'}
    made = make(alices, engine, **fields)
    announce(loras=[])
    assert repeat(alices, **fields).reused_from is None
    announce()
    assert repeat(alices, **fields).reused_from == made


def test_an_answer_is_never_answered_from_another_answer(alices: ApiToken, made: Generation) -> None:
    assert [repeat(alices).reused_from for _ in range(3)] == [made] * 3
