"""Bundled weights are loaded only as they were released."""

import shutil
from pathlib import Path

import pytest

from generation.engine import digests
from generation.engine.digests import check_digests
from generation.engine.errors import ModelFailed
from generation.repositories.files import BUNDLED


def test_all_bundled_files_are_those_that_were_released() -> None:
    for path in BUNDLED.iterdir():
        if path.is_dir():
            check_digests(path)


@pytest.mark.parametrize("change", ["byte", "missing", "added"])
def test_files_that_differ_are_not_loaded(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BUNDLED / "tiny-edit", tmp_path / "tiny-edit")
    monkeypatch.setattr(digests, "BUNDLED", tmp_path)
    check_digests(tmp_path / "tiny-edit")
    weights = tmp_path / "tiny-edit" / "vae" / "diffusion_pytorch_model.safetensors"
    match change:
        case "byte":
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
            with pytest.raises(ModelFailed, match="tiny-edit are not those that were released"):
                check_digests(weights)
        case "missing":
            weights.unlink()
        case "added":
            shutil.copy(weights, weights.with_name("other.safetensors"))
    with pytest.raises(ModelFailed, match="tiny-edit are not those that were released"):
        check_digests(tmp_path / "tiny-edit")


def test_other_weights_are_not_compared(tmp_path: Path) -> None:
    check_digests(tmp_path)
