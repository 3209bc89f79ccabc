"""The files in `requirements/`: they pin what `pyproject.toml` asks for, by hash, and the suite runs with that."""

import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.environment import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def read_pins(name: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Return the pins of a file, by name, each with its number of hashes. Platforms may have different ones."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in re.findall(r"^[^ #\n].*", text, re.M):
        requirement = Requirement(entry.partition("--hash")[0])
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), f"{requirement} is not pinned"
        pins.setdefault(canonicalize_name(requirement.name), []).append((requirement, len(_HASH.findall(entry))))
    return pins


@pytest.mark.parametrize("name", ["run", "dev", "gpu", "observability", "audit"])
def test_all_files_but_torchs_have_hashes(name: str) -> None:
    pins = read_pins(name)
    assert pins
    assert [package for package, of_it in pins.items() for _, hashes in of_it if not hashes] == []
    # Without its own entry torch is not installed by pip's --no-deps; its CUDA libraries come with it.
    assert [package for package in pins if package == "torch" or package.startswith(("nvidia-", "cuda-"))] == []


def test_what_is_asked_for_is_pinned_within_its_range() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = {"run": PROJECT["dependencies"], **extras}
    torch = read_pins("torch")
    for name, requirements in asked.items():
        pins = read_pins(name) | torch
        for requirement in map(Requirement, requirements):
            for pin, _ in pins[canonicalize_name(requirement.name)]:
                (specifier,) = pin.specifier
                assert requirement.specifier.contains(specifier.version), f"{name}: {pin} for {requirement}"


def test_development_and_extras_use_the_same_releases() -> None:
    run = read_pins("run")
    for name in ("dev", "gpu", "observability"):
        assert {package: pins for package, pins in read_pins(name).items() if package in run} == run


def test_the_suite_runs_with_what_is_pinned() -> None:
    for pins in read_pins("dev").values():
        for pin, _ in pins:
            if pin.marker is None or pin.marker.evaluate():
                assert pin.specifier.contains(version(pin.name)), pin
