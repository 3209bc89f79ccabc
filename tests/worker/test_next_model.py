"""The weights of the next model of the queue are read into memory while another one runs."""

from pathlib import Path

import pytest

from accounts.models import ApiToken
from generation.engine.engine import Engine, EngineSettings
from generation.families import Family
from generation.models import DiffusionModel
from generation.worker.next_model import NextModel
from tests.support.jobs import submit
from tests.support.page_cache import forget, is_in_memory
from tests.support.tiny_models import save_stable_diffusion

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


def test_the_weights_of_the_next_model_are_read_once(alices: ApiToken, tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path, "someone/next")
    DiffusionModel.objects.create(id="someone/next", family=Family.STABLE_DIFFUSION, enabled=True)
    (weights,) = (tmp_path / "someone" / "next" / "unet").glob("*.safetensors")
    next_model = NextModel("default", Engine(EngineSettings(models_dir=tmp_path, offline=True)))
    forget(weights)
    next_model.read_ahead()
    assert not is_in_memory(weights)
    submit(alices, model_id="someone/next")
    next_model.read_ahead()
    assert is_in_memory(weights)
    forget(weights)
    next_model.read_ahead()
    assert not is_in_memory(weights)
