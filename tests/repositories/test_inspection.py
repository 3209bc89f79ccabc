"""Repositories are inspected before any weights are fetched: on disk, and on a hub on loopback."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import huggingface_hub
import pytest
from safetensors import safe_open

from generation.families import FAMILY_TRAITS, Family
from generation.family_detection import UnsupportedModel
from generation.repositories.files import BUNDLED
from generation.repositories.inspection import Inspection, InspectionFailed, inspect_lora, inspect_model
from generation.repositories.lightning import SDXL_BASE
from generation.repositories.sources import Source
from tests.support.hub import ModelHub
from tests.support.single_files import save_checkpoint
from tests.support.tiny_models import save_lightning_unet, save_sdxl, save_stable_diffusion
from tests.support.twins import save_twin

EDIT = "dreamsite/tiny-edit"
FLUX = "black-forest-labs/FLUX.1-schnell"
FIRST_BYTES = 100_001
"""What is read of a file for its header, at first."""


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_twin(directory, "flux-schnell")
    save_stable_diffusion(directory, "tests/sd")
    save_sdxl(directory, SDXL_BASE.id)
    save_lightning_unet(directory, 4)
    return directory


@pytest.fixture
def flux(hub: ModelHub, models_dir: Path) -> str:
    """A gated model on the hub; return its commit."""
    card = {"license": "other", "license_name": "flux-1-licence"}
    return hub.add(FLUX, models_dir / "twins/flux-schnell", card, gated="auto").commit


def parameters_on_disk(directory: Path) -> dict[str, int]:
    counts = Counter[str]()
    for file in directory.glob("*/*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                counts[file.parent.name] += math.prod(tensors.get_slice(name).get_shape())
    return dict(counts)


def test_a_model_on_the_hub_is_inspected_without_its_weights(
    hub: ModelHub, models_dir: Path, flux: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    file = "transformer/diffusion_pytorch_model.safetensors"
    directory = models_dir / "twins/flux-schnell"
    assert (directory / file).stat().st_size > FIRST_BYTES
    with hub.held(FLUX, file, after=FIRST_BYTES) as hold:
        found = inspect_model(Source(FLUX), tmp_path, False)
        assert not hold.reached.is_set()
    assert found == Inspection(
        repository=FLUX,
        revision=flux,
        family=Family.FLUX_SCHNELL,
        licence="flux-1-licence",
        is_gated=True,
        download_bytes=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        parameters=parameters_on_disk(directory),
    )
    assert list(tmp_path.iterdir()) == []
    assert inspect_model(Source(FLUX, flux), tmp_path, False) == found


@pytest.mark.parametrize(
    ("token", "says"),
    [("", "set HF_TOKEN, which is missing"), (ModelHub.other_token, "the hub refused this token's access")],
)
def test_a_gated_model_tells_where_to_accept_its_licence(
    hub: ModelHub, flux: str, tmp_path: Path, token: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    found = inspect_model(Source(FLUX), tmp_path, False)
    assert (found.family, found.revision, found.licence, found.is_gated) == (None, flux, "flux-1-licence", True)
    assert f"Accept its licence at {hub.url}/{FLUX}" in found.problem
    assert says in found.problem


@pytest.mark.parametrize(
    ("source", "token", "says"),
    [
        (Source("no/body"), "", "no repository no/body, or it is private and HF_TOKEN is missing"),
        (Source("no/body"), ModelHub.token, "or the token in HF_TOKEN may not read it"),
        (Source(FLUX, "v2"), "", "has no commit v2"),
        (Source(FLUX), "hf_expired", "refused HF_TOKEN as invalid"),
    ],
)
def test_what_the_hub_does_not_give_is_told_in_words(
    flux: str, tmp_path: Path, source: Source, token: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InspectionFailed, match=says):
        inspect_model(source, tmp_path, False)


def test_without_the_hub_only_a_full_commit_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InspectionFailed, match=f"MODELS_OFFLINE is on.*{tmp_path}/{FLUX}"):
        inspect_model(Source(FLUX), tmp_path, True)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InspectionFailed, match=r"The hub at http://127.0.0.1:9 cannot be reached"):
        inspect_model(Source(FLUX), tmp_path, False)
    found = inspect_model(Source(FLUX, "a" * 40), tmp_path, False)
    assert (found.family, found.revision) == (None, "a" * 40)
    assert "cannot be reached" in found.problem


def test_directories_are_inspected_as_the_hub_is(models_dir: Path) -> None:
    found = inspect_model(Source("tests/sd"), models_dir, True)
    directory = models_dir / "tests/sd"
    assert (found.family, found.revision, found.problem) == (Family.STABLE_DIFFUSION, "", "")
    assert found.parameters == parameters_on_disk(directory)
    assert found.download_bytes == sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert inspect_model(Source(EDIT), models_dir, True).family is Family.INSTRUCT_PIX2PIX
    with pytest.raises(InspectionFailed, match="MODELS_DIR/tests/sd is used in place of the hub"):
        inspect_model(Source("tests/sd", "main"), models_dir, True)


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: mit\n---\nA model.", "mit"),
        ("---\nlicense: other\nlicense_name: own\n---\n", "own"),
        ("---\nlicense: [mit, cc0-1.0]\n---\n", "mit, cc0-1.0"),
        ("A model.", ""),
        ("---\nlicense: [mit\n---\n", ""),
        ("---\n1: 2\n---\n", ""),
        ("---\n- mit\n---\n", ""),
        ("---\nlicense: !!python/object:os.system mit\n---\n", ""),
    ],
)
def test_the_licence_is_that_of_the_card(tmp_path: Path, readme: str, licence: str) -> None:
    shutil.copytree(BUNDLED / "banknote", tmp_path / "own/lora")
    (tmp_path / "own/lora/README.md").write_text(readme)
    assert inspect_lora(Source("own/lora"), tmp_path, True).licence == licence


def test_smaller_weights_for_float16_are_told(hub: ModelHub, models_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(models_dir / "tests/sd", tmp_path / "copies")
    weights = directory / "unet/diffusion_pytorch_model.safetensors"
    copy = directory / "unet/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(BUNDLED / "banknote/pytorch_lora_weights.safetensors", copy)
    saved = weights.stat().st_size - copy.stat().st_size
    assert saved > 0
    hub.add("own/copies", directory)
    found = inspect_model(Source("own/copies"), tmp_path, False)
    assert found.download_bytes == (found.float16_bytes or 0) + saved
    weights.unlink()
    hub.add("own/copies", directory)
    half = inspect_model(Source("own/copies"), tmp_path, False)
    assert (half.download_bytes, half.float16_bytes) == (found.float16_bytes, None)


def test_lightning_is_one_file_and_the_parts_of_another_model(models_dir: Path) -> None:
    found = inspect_model(Source("ByteDance/SDXL-Lightning-4step"), models_dir, True)
    base = inspect_model(Source(SDXL_BASE.id), models_dir, True)
    assert (found.repository, found.family) == ("ByteDance/SDXL-Lightning-4step", Family.LIGHTNING)
    assert found.parameters == base.parameters
    with pytest.raises(UnsupportedModel, match=r"has no file sdxl_lightning_8step_unet.safetensors"):
        inspect_model(Source("ByteDance/SDXL-Lightning"), models_dir, True)


def test_what_cannot_be_loaded_is_refused_with_the_reason(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(models_dir / "tests/sd", tmp_path / "own/model")
    source = Source("own/model")
    weights = directory / "unet/diffusion_pytorch_model.safetensors"

    weights.write_bytes(b"\xff" * 100)
    with pytest.raises(UnsupportedModel, match="damaged"):
        inspect_model(source, tmp_path, True)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UnsupportedModel, match=r"Its unet comes only as unet/diffusion_pytorch_model.bin"):
        inspect_model(source, tmp_path, True)
    weights.with_suffix(".bin").rename(weights)
    shutil.rmtree(directory / "vae")
    with pytest.raises(UnsupportedModel, match="not complete: it has no files of its vae"):
        inspect_model(source, tmp_path, True)
    index = json.loads((directory / "model_index.json").read_text())
    (directory / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxControlPipeline"}))
    with pytest.raises(UnsupportedModel, match="needs a control picture"):
        inspect_model(source, tmp_path, True)
    for text, says in [("{}", "names no pipeline"), ("[]", "damaged"), ("{", "damaged")]:
        (directory / "model_index.json").write_text(text)
        with pytest.raises(UnsupportedModel, match=says):
            inspect_model(source, tmp_path, True)
    (directory / "model_index.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"neither model_index.json nor"):
        inspect_model(source, tmp_path, True)


def test_missing_packages_are_a_reason(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traits = FAMILY_TRAITS[Family.STABLE_DIFFUSION].model_copy(update={"packages": ("not_installed_here",)})
    monkeypatch.setitem(FAMILY_TRAITS, Family.STABLE_DIFFUSION, traits)
    with pytest.raises(UnsupportedModel, match="need the package not_installed_here"):
        inspect_model(Source("tests/sd"), models_dir, True)


def test_a_single_file_has_a_directory_of_its_own(hub: ModelHub, models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "own/files/a.safetensors"
    save_checkpoint(models_dir / "tests/sd", file)
    found = inspect_model(Source("own/files"), tmp_path, True)
    assert (found.file, found.family) == ("a.safetensors", Family.STABLE_DIFFUSION)
    assert found.download_bytes == file.stat().st_size
    assert found.parameters == parameters_on_disk(models_dir / "tests/sd")
    assert inspect_model(Source("own/files", "", "a.safetensors"), tmp_path, True) == found
    hub.add("their/files", file.parent)
    for source, says in [
        (
            Source("their/files", "main", "a.safetensors"),
            "download a.safetensors into a directory MODELS_DIR/owner/name",
        ),
        (Source("own/files", "", "c.safetensors"), r"has no file c\.safetensors"),
    ]:
        with pytest.raises(UnsupportedModel, match=says):
            inspect_model(source, tmp_path, False)
    with pytest.raises(UnsupportedModel, match="which is loaded as a whole"):
        inspect_model(Source("tests/sd", "", "unet/diffusion_pytorch_model.safetensors"), models_dir, True)
    lora = shutil.copy(BUNDLED / "banknote/pytorch_lora_weights.safetensors", file.parent / "b.safetensors")
    with pytest.raises(UnsupportedModel, match=r"several models, a.safetensors, b.safetensors: put one"):
        inspect_model(Source("own/files"), tmp_path, True)
    hub.add("their/lora", Path(shutil.copytree(BUNDLED / "banknote", tmp_path / "lora")))
    for source in (Source("their/lora"), Source("their/lora", "main", "pytorch_lora_weights.safetensors")):
        with pytest.raises(UnsupportedModel, match="It is a LoRA"):
            inspect_model(source, tmp_path, False)
    shutil.move(lora, file)
    with pytest.raises(UnsupportedModel, match="It is a LoRA"):
        inspect_model(Source("own/files"), tmp_path, True)
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(UnsupportedModel, match="damaged"):
        inspect_model(Source("own/files"), tmp_path, True)


def test_a_lora_tells_its_files_and_the_models_it_was_made_for(hub: ModelHub, tmp_path: Path, flux: str) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        shutil.copy(BUNDLED / "banknote/pytorch_lora_weights.safetensors", tmp_path / name)
    size = (tmp_path / "a.safetensors").stat().st_size
    commit = hub.add("own/loras", tmp_path, {"license": "mit", "base_model": EDIT}).commit
    found = inspect_lora(Source("own/loras"), tmp_path, False)
    assert (found.revision, found.licence, found.base_models, found.file) == (commit, "mit", (EDIT,), "")
    assert found.weights == {"a.safetensors": size, "b.safetensors": size}
    chosen = inspect_lora(Source("own/loras", "main", "b.safetensors"), tmp_path, False)
    assert (chosen.file, chosen.download_bytes) == ("b.safetensors", size)
    for source, says in [(Source("own/loras", "", "c.safetensors"), "has no file"), (Source(FLUX), "a whole model")]:
        with pytest.raises(UnsupportedModel, match=says):
            inspect_lora(source, tmp_path, False)
