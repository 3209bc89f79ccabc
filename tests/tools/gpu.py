"""Check models with real weights on this machine's GPU, as the tests check tiny ones, and print a report in Markdown.

    python -m tests.tools.gpu stabilityai/sd-turbo /models/flux

Each argument is a directory in diffusers format, or `owner/name` of a bundled model or one in MODELS_DIR, where
`manage.py download_model` puts it. DEVICE and DTYPE are read as by the service. What fails has its error below the table.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from generation.engine.engine import Engine
from generation.engine.errors import EngineError, first_cause
from generation.parameters import ImageToImageParameters
from generation.recipes import BUNDLED_OWNER, NO_LIMITS, ModelReference, plan, traits_of
from generation.repositories.files import BUNDLED
from tests.support.pictures import scene
from tests.support.twins import TWINS, Twin

_CHECKS = "tests/engine/test_families.py"
_SIDE = 1024
"""Width and height of the picture whose steps are measured; the model may make it smaller."""


@dataclass
class ModelReport:
    """What was found of one model: facts by their names, and the error of each check, empty if it passed."""

    facts: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)


class Reporter:
    """A pytest plugin: runs the checks of models alone, measures each model after its last one, and keeps the results."""

    def __init__(self) -> None:
        self.models: dict[str, ModelReport] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "driver" in getattr(item, "fixturenames", ())]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, _, rest = report.nodeid.rpartition("::")[2].partition("[")
        model = next(model for model in TWINS if rest.startswith(model))
        values = rest[len(model) :].strip("-]").replace("-", " = ", 1)
        check = name.removeprefix("test_").replace("_", " ") + (f": {values}" if values else "")
        checks = self.models.setdefault(model, ModelReport()).checks
        if report.failed or (report.passed and report.when == "call"):
            lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
            checks[check] = "\n".join(lines) if report.failed else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: Any, nextitem: Any) -> None:
        driver = item.funcargs.get("driver")
        if driver is not None and (nextitem is None or nextitem.callspec.params["driver"] != driver.model.id):
            try:
                self.models[driver.model.id].facts = _measure(driver.engine, driver.model)
            except EngineError as error:
                self.models[driver.model.id].facts = {"run": f"failed: {error.message} {first_cause(error)}."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="owner/name, or a directory")
    directories = [_directory(model) for model in parser.parse_args().models]
    TWINS.clear()
    for model_id, directory in directories:
        TWINS[model_id] = _as_twin(directory, model_id)
    reporter = Reporter()
    # Warnings of libraries are not failures here. Standard output is for the report alone.
    with redirect_stdout(sys.stderr):
        pytest.main([_CHECKS, "--verbose", "--tb=short", "-o", "filterwarnings=default"], plugins=[reporter])
    if not reporter.models:
        sys.exit("No check ran; the lines above say why.")
    print(_markdown(reporter.models))  # noqa: T201
    sys.exit(any(error for report in reporter.models.values() for error in report.checks.values()))


def _directory(model: str) -> tuple[str, Path]:
    """Return the id and the directory of a model. Exits if there is none."""
    if (Path(model) / "model_index.json").is_file():
        return f"local/{Path(model).resolve().name}", Path(model).resolve()
    owner, _, name = model.rpartition("/")
    models_dir = Path(os.environ.get("MODELS_DIR") or Path(os.environ.get("DATA_DIR") or "data") / "models")
    snapshots = (models_dir / "hub" / f"models--{owner}--{name}" / "snapshots").glob("*")
    by_age = sorted(snapshots, key=lambda path: path.stat().st_mtime)
    bundled = [BUNDLED / name] if owner == BUNDLED_OWNER else []
    for directory in (*bundled, models_dir / model, *reversed(by_age)):
        if (directory / "model_index.json").is_file():
            return model, directory.resolve()
    sys.exit(
        f"{model} is neither in {models_dir} nor a directory with a model_index.json. Fetch it with `manage.py "
        "download_model`, or name a directory in diffusers format."
    )


def _as_twin(directory: Path, model_id: str) -> Twin:
    def link(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.symlink_to(directory)

    return Twin(link, model_id, dtype=os.environ.get("DTYPE", "auto"), is_tiny=False)


def _measure(engine: Engine, model: ModelReference) -> dict[str, str]:
    """Return the facts of a model, with the time and the memory of a run as recommended."""
    traits = traits_of(model)
    warm = engine._pipelines.get(model)
    is_cuda = engine.device.startswith("cuda")
    picture = scene(_SIDE, _SIDE)
    recommended = {name: value for name, value in traits.recommended.items() if value is not None}
    fields = ImageToImageParameters(**{"prompt": "make it night", "seed": 7, "safety_check": False, **recommended})
    recipe = plan(fields, model, [], picture.size, NO_LIMITS)[0]
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = engine.run(recipe, picture, lambda *_: None)
    seconds = time.perf_counter() - start
    width, height = result.pictures[0].image.size
    peak = torch.cuda.max_memory_reserved() if is_cuda else engine.memory[0]
    return {
        "family": f"{model.family} ({type(warm.pipe).__name__})",
        "number type": str(warm.dtype).removeprefix("torch."),
        "weights": f"{warm.size / 1e9:.2f} GB",
        "run": f"{recipe.executed_steps} steps of {width} x {height} pixels in {seconds:.1f} s",
        "a step": f"{result.timings['denoising'] / recipe.executed_steps:.3f} s",
        "peak memory": f"{peak / 1e9:.2f} GB" + ("" if is_cuda else " (of the process, after the run)"),
    }


def _markdown(models: dict[str, ModelReport]) -> str:
    lines = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _machine().items())]
    for model, report in models.items():
        lines += ["", f"## {model}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in report.facts.items()]
        lines += ["", "| check | |", "|---|---|"]
        lines += [f"| {check} | {'**failed**' if error else 'ok'} |" for check, error in report.checks.items()]
        for error in dict.fromkeys(filter(None, report.checks.values())):
            checks = [check for check, other in report.checks.items() if other == error]
            lines += ["", f"Failed: {'; '.join(checks)}", "", "```text", error, "```"]
    return "\n".join(lines)


def _machine() -> dict[str, str]:
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    if not torch.cuda.is_available():
        return {"card": "none, CPU", "processor": platform.processor() or platform.machine(), **versions}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        cards = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.CalledProcessError):
        cards = torch.cuda.get_device_name()
    return {"card": cards, "CUDA": str(torch.version.cuda), **versions}


if __name__ == "__main__":
    main()
