"""`python -m tests.tools.gpu` finds the checks of the family tests, runs them for the models it is given, and reports."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.environment import ROOT


def test_a_model_without_weights_fails_each_check_with_its_error(tmp_path: Path) -> None:
    """A model with weights would need the time of all checks: `tests.engine.test_families` has it for the twins."""
    directory = tmp_path / "empty"
    directory.mkdir()
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (directory / "model_index.json").write_text(json.dumps(index))
    finished = subprocess.run(
        [sys.executable, "-m", "tests.tools.gpu", str(directory)], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 1
    report = finished.stdout
    assert "| card | none, CPU |" in report or "| CUDA |" in report
    assert "## local/empty" in report
    assert "| run | failed: Model 'local/empty' could not be loaded." in report
    assert "| the picture matters | **failed** |" in report
    assert "| it warms | **failed** |" in report
    assert "| ok |" not in report
    assert "generation.engine.errors.ModelFailed: Model 'local/empty' could not be loaded." in report
