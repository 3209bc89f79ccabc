"""`manage.py download_model`: it finds available models, and explains others in one line."""

from io import StringIO
from pathlib import Path

import huggingface_hub
import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from generation.models import DiffusionModel
from generation.repositories.files import BUNDLED

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def models_dir(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty MODELS_DIR, with the hub offline as if HF_HUB_OFFLINE were set."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    settings.MODELS_DIR = tmp_path
    return tmp_path


def download(model_id: str) -> list[str]:
    """Return the lines that the command prints."""
    output = StringIO()
    call_command("download_model", model_id, stdout=output)
    return output.getvalue().splitlines()


def refusal(model_id: str) -> str:
    with pytest.raises(CommandError) as caught:
        download(model_id)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_bundled_model_is_there(tiny_edit: DiffusionModel) -> None:
    assert download(tiny_edit.id) == [
        "Downloading the missing files of dreamsite/tiny-edit ...",
        f"dreamsite/tiny-edit is in {BUNDLED / 'tiny-edit'}",
    ]


def test_a_model_put_into_models_dir_is_there(models_dir: Path) -> None:
    DiffusionModel.objects.create(id="someone/model", family="stable-diffusion")
    assert refusal("someone/model").startswith("someone/model is not on disk, and has no commit to download")
    (models_dir / "someone" / "model").mkdir(parents=True)
    (models_dir / "someone" / "model" / "model_index.json").write_text("{}")
    assert download("someone/model")[1:] == [
        f"someone/model is in {models_dir / 'someone' / 'model'}",
        "Requests cannot use it yet: enable it in the admin.",
    ]


def test_a_hub_that_cannot_be_reached_is_one_clear_line() -> None:
    DiffusionModel.objects.get_or_create(id="someone/far", family="turbo", revision="0" * 40)
    line = refusal("someone/far")
    assert line.startswith("The hub at http://127.0.0.1:")
    assert "offline mode is enabled" in line


def test_an_unknown_model_is_one_clear_line(tiny_edit: DiffusionModel) -> None:
    line = refusal("nobody/nothing")
    assert line.startswith("There is no model 'nobody/nothing'; add it in the admin, or choose one of ")
    assert tiny_edit.id in line
