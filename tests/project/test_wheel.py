"""The wheel: it has all that is needed, and `dreamsite serve` makes pictures wherever it is started."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import dreamsite
from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import Service


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, made by the build backend of `pyproject.toml` in the release that is pinned."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], cwd=ROOT, check=True)
    (path,) = directory.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `dreamsite` of an environment with the wheel, which finds all other packages in the tests' own."""
    directory = tmp_path_factory.mktemp("v")
    venv.create(directory)
    packages = sysconfig.get_path("purelib", vars={"base": str(directory)})
    Path(packages, "tests.pth").write_text(sysconfig.get_path("purelib"))
    python = str(directory / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    return directory / "bin" / "dreamsite"


def test_it_has_the_packages_and_the_templates_and_nothing_else(wheel: Path) -> None:
    def files(*roots: str) -> set[str]:
        found = (path for root in roots for path in (ROOT / root).rglob("*") if path.is_file())
        return {str(path.relative_to(ROOT)) for path in found if path.suffix != ".pyc"}

    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == (
        files("accounts", "dreamsite", "generation") | {f"dreamsite/{name}" for name in files("templates")}
    )
    assert wheel.name == f"dreamsite-{dreamsite.__version__}-py3-none-any.whl"


def test_it_makes_pictures_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "dreamsite", True, DATA_DIR="", XDG_DATA_HOME=str(tmp_path))
    service.program = [installed]
    service.directory = tmp_path / "empty"
    service.directory.mkdir()
    assert service.manage("--version") == f"dreamsite {dreamsite.__version__}"
    with service, service.client(service.token) as client:
        answer = client.post(
            "/image-to-image",
            data={"prompt": "make it night", "num_inference_steps": "1"},
            files={"image": pictures.photo(128, 128)},
        )
        assert answer.status_code == 200, answer.text
        assert client.get(answer.json()["images"][0]["url"]).headers["Content-Type"] == "image/png"
        assert client.get("/openapi.json").json()["info"]["version"] == dreamsite.__version__
        assert "</form>" in client.get("/", follow_redirects=True).text
        assert client.get("/static/dreamsite/theme.css").status_code == 200
    # All that it wrote is in DATA_DIR.
    assert not list(service.directory.iterdir())
    assert (service.data_dir / "db.sqlite3").is_file()
