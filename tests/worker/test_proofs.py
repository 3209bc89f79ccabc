"""A proof makes a generation again and says whether the pictures are bit-exact, and what of the receipts differs."""

from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from PIL import Image
from pytest_django import Settings

from accounts.models import ApiToken, User
from generation.engine.engine import Engine, EngineSettings
from generation.images.inputs import InputFiles, read_files
from generation.jobs import proofs, queue, submission
from generation.library import deletion
from generation.models import DiffusionModel, Generation, State, UserShare
from generation.parameters import ErrorCode, ImageToImageParameters
from tests.support.execution import run_batch
from tests.support.generations import half_mask
from tests.support.jobs import claim
from tests.support.pictures import encoded, photo
from tests.support.tiny_models import save_stable_diffusion

WARM = {"dreamsite/tiny-edit": "fingerprint"}

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return new_engine(tmp_path_factory.mktemp("models"))


def new_engine(models_dir: Path, dtype: str = "float32") -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype=dtype, offline=True))


def submit(token: ApiToken, mask: Image.Image | None = None, /, **fields: str) -> Generation:
    sent = InputFiles(BytesIO(photo(128, 96)), BytesIO(encoded(mask)) if mask else None)
    inputs, _ = read_files(sent, max_pixels=1_000_000)
    parameters = ImageToImageParameters.from_form({"prompt": "make it night", "num_inference_steps": "2", **fields})
    return submission.submit(submission.build(submission.Request(token.user, token, parameters, inputs)), inputs)


def make(engine: Engine, token: ApiToken, mask: Image.Image | None = None, /, **fields: str) -> Generation:
    submit(token, mask, **fields)
    return run_next(engine)


def run_next(engine: Engine) -> Generation:
    generation = claim()
    assert generation
    run_batch([generation], engine)
    generation.refresh_from_db()
    return generation


def prove(engine: Engine, generation: Generation) -> Generation:
    proofs.submit(generation, generation.user)
    return run_next(engine)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_images_per_prompt": "2"},
        {"model_id": "dreamsite/tiny-redraw", "prompt": "a lighthouse", "strength": "0.8"},
        {"output_format": "jpeg", "output_quality": "60"},
        {"output_format": "webp"},
    ],
)
def test_it_is_bit_exact_also_after_a_restart(
    alices: ApiToken, engine: Engine, tmp_path: Path, fields: dict[str, str]
) -> None:
    DiffusionModel.objects.get_or_create(
        id="dreamsite/tiny-redraw", defaults={"family": "stable-diffusion", "enabled": True}
    )
    generation = make(engine, alices, **fields)
    for worker in (engine, new_engine(tmp_path)):
        proof = prove(worker, generation)
        identical = {"identical": True, "psnr": None, "largest_difference": 0}
        assert proof.comparison == {"pictures": [identical] * generation.image_count, "differences": []}


def test_a_part_of_a_picture_is_proved(alices: ApiToken, engine: Engine) -> None:
    proof = prove(engine, make(engine, alices, half_mask(128, 96)))
    assert proof.proof
    assert proof.proof["identical"]


def test_the_call_has_as_many_pictures_as_the_first_time(
    alices: ApiToken, bobs: ApiToken, engine: Engine, settings: Settings
) -> None:
    settings.MAX_BATCH = 4
    DiffusionModel.objects.update(batching_verified=WARM["dreamsite/tiny-edit"])
    for token, fields in ((alices, {"seed": "3"}), (bobs, {"num_images_per_prompt": "2", "prompt": "pixel art"})):
        submit(token, **fields)
    batch = queue.claim("default", "worker-1", WARM)
    assert len(batch) == 2
    run_batch(batch, engine)
    for row in Generation.objects.filter(proves=None):
        proof = prove(engine, row)
        assert proof.calls == row.calls
        assert proof.comparison
        assert proof.comparison["differences"] == []
        assert [each["identical"] for each in proof.comparison["pictures"]] == [True] * row.image_count
        assert proof.cost == pytest.approx(3 * row.cost / row.image_count)


def test_another_number_type_is_named(alices: ApiToken, engine: Engine, tmp_path: Path) -> None:
    proof = prove(new_engine(tmp_path, "bfloat16"), make(engine, alices))
    assert proof.comparison
    assert proof.comparison["differences"] == [{"name": "dtype", "then": "float32", "now": "bfloat16"}]
    (picture,) = proof.comparison["pictures"]
    assert not picture["identical"]
    assert 20 < picture["psnr"] < 100
    assert 0 < picture["largest_difference"] <= 255


def test_a_changed_weight_file_is_named(alices: ApiToken, tmp_path: Path) -> None:
    model = save_stable_diffusion(tmp_path, "tests/changing")
    DiffusionModel.objects.create(id=model.id, family=model.family, enabled=True)
    generation = make(new_engine(tmp_path), alices, model_id=model.id, strength="1")
    name = "unet/diffusion_pytorch_model.safetensors"
    other = save_stable_diffusion(tmp_path / "other", model.id, seed=1)
    (tmp_path / "other" / other.id / name).replace(tmp_path / model.id / name)
    proof = prove(new_engine(tmp_path), generation)
    assert proof.comparison
    (difference,) = proof.comparison["differences"]
    assert difference["name"] == name
    assert generation.receipt
    assert difference["then"] == generation.receipt["files"][name] != difference["now"]
    assert proof.proof
    assert proof.proof["identical"] is False


def test_another_watermark_key_is_named(alices: ApiToken, engine: Engine, settings: Settings) -> None:
    generation = make(engine, alices)
    settings.WATERMARK_KEY = "the key of another host, which is as long"
    proof = prove(engine, generation)
    assert proof.comparison
    (difference,) = proof.comparison["differences"]
    assert difference["name"] == "watermark_key"
    assert difference["then"] != difference["now"]
    assert settings.WATERMARK_KEY not in str(difference)


def test_a_receipt_without_the_key_of_the_watermark_is_compared_without(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    assert generation.environment
    values = generation.environment.values
    del values["watermark_key"]
    generation.environment.save()
    proof = prove(engine, generation)
    assert proof.comparison
    assert proof.comparison["differences"] == []


def test_nothing_of_it_is_kept_but_what_it_found(alices: ApiToken, alice: User, engine: Engine) -> None:
    generation = make(engine, alices)
    stored = sorted(default_storage.listdir(f"outputs/{generation.created:%Y/%m/%d}")[1])
    usage = UserShare.objects.get(user=alice).decayed_usage
    proof = prove(engine, generation)
    assert (proof.state, proof.images.count(), proof.prompt, proof.input.name) == (State.SUCCEEDED, 0, "", "")
    assert (proof.input_bytes, proof.output_bytes, proof.warnings) == (0, 0, [])
    assert proof.parameters["prompt"] == proof.recipe["prompt"] == ""
    assert sorted(default_storage.listdir(f"outputs/{generation.created:%Y/%m/%d}")[1]) == stored
    assert list(Generation.objects.owned_by(alice)) == [generation]
    assert proof.cost == generation.cost
    assert UserShare.objects.get(user=alice).decayed_usage > usage


def test_a_quarantined_picture_is_compared_itself(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    image = generation.images.get()
    generation.images.update(original=image.file.name, file=image.thumbnail.name)
    proof = prove(engine, generation)
    assert proof.proof
    assert proof.proof["identical"]


def test_without_an_earlier_receipt_the_differences_are_unknown(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    Generation.objects.update(environment=None, calls=None)
    generation.refresh_from_db()
    proof = prove(engine, generation)
    assert proof.comparison
    assert proof.comparison["differences"] is None
    assert proof.comparison["pictures"][0]["identical"]


def test_what_is_deleted_meanwhile_is_not_proved(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    proofs.submit(generation, generation.user)
    assert deletion.delete(generation)
    proof = run_next(engine)
    assert (proof.state, proof.error_code, proof.cost) == (State.FAILED, ErrorCode.DELETED, 0)


def test_pictures_that_cannot_be_read_fail_it(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    default_storage.delete(str(generation.images.get().file.name))
    assert prove(engine, generation).error_code == ErrorCode.STORAGE_FAILED


def test_one_that_waits_is_not_asked_for_again(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    first = proofs.submit(generation, generation.user)
    assert proofs.submit(generation, generation.user) == first
    run_next(engine)
    assert proofs.submit(generation, generation.user) != first


@pytest.mark.parametrize("removed", ["input", "results", "mask"])
def test_what_lacks_something_is_refused(alices: ApiToken, engine: Engine, removed: str) -> None:
    generation = make(engine, alices, half_mask(128, 96) if removed == "mask" else None)
    match removed:
        case "results":
            generation.images.update(file="")
        case name:
            Generation.objects.update(**{name: ""})
    generation.refresh_from_db()
    with pytest.raises(proofs.ProofRefused, match="removed"):
        proofs.submit(generation, generation.user)
    assert not proofs.is_possible(generation)


def test_proofs_and_failures_are_refused(alices: ApiToken, engine: Engine) -> None:
    generation = make(engine, alices)
    with pytest.raises(proofs.ProofRefused, match="proof itself"):
        proofs.submit(prove(engine, generation), generation.user)
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
    generation.refresh_from_db()
    with pytest.raises(proofs.ProofRefused, match="no pictures"):
        proofs.submit(generation, generation.user)
