"""`make container`: build an image of deploy/Containerfile, run it as docs/containers.md says, and make a picture with it.

It needs root and podman. Where no registry can be reached, debootstrap makes the Debian that the image begins with, from
Debian's packages. A machine's own needs, such as the certificate of a proxy, belong into a file that CONTAINERS_CONF names.
"""

import io
import json
import subprocess
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.servers import free_port
from tests.support.service import WAIT_SECONDS, wait_until

MEGABYTE = 1_000_000


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--debian", default="trixie", help="the release of Debian")
    parser.add_argument("--target", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--torch-options", default="--torch-backend cpu", help="where uv finds torch for the CPU")
    options = parser.parse_args()
    base, image = f"debian:{options.debian}-slim", f"dreamsite:{options.target}-{options.debian}"
    if subprocess.run(["podman", "image", "exists", base]).returncode:
        with _timed(f"{base} by debootstrap"):
            _bootstrap(options.debian, base)
    arguments = [f"DEBIAN={options.debian}", f"TORCH_OPTIONS={options.torch_options}"]
    build = [
        "build",
        "--format",
        "docker",
        "--target",
        options.target,
        "--tag",
        image,
        "--file",
        "deploy/Containerfile",
    ]
    with _timed("build"):
        _podman(*build, *(word for argument in arguments for word in ("--build-arg", argument)), ".")
    for name in (base, image):
        size = int(_podman("image", "inspect", "--format", "{{.Size}}", name))
        print(f"{name}: {size / MEGABYTE:,.0f} MB")  # noqa: T201
    _try(image)


def _bootstrap(release: str, name: str) -> None:
    """Make a Debian of the most necessary packages into an image."""
    with tempfile.TemporaryDirectory(prefix="debian-") as folder:
        # Without a mirror it takes the one that its script for this release names.
        subprocess.run(["debootstrap", "--variant=minbase", release, folder], check=True, stdout=subprocess.DEVNULL)
        for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
            for path in (Path(folder) / cache).glob("*[._]*"):
                path.unlink()
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as archive:
            subprocess.run(["podman", "import", "-", name], stdin=archive.stdout, stdout=subprocess.DEVNULL, check=True)


def _try(image: str) -> None:
    """Run the image with as few rights as the documentation gives it, make a picture, and stop it."""
    port = free_port()
    rights = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]  # noqa: S108
    place = ["--network", "host", "--env", f"PORT={port}", "--env", "MODELS_OFFLINE=on"]
    with _timed("start"):
        container = _podman("run", "--detach", *rights, *place, image).strip()
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_ready(url), "readiness")
        except BaseException:
            print(_podman("logs", container))  # noqa: T201
            raise
    try:
        inside = ["exec", container, "python", "-c"]
        versions = "import platform, torch; print('Python', platform.python_version(), 'torch', torch.__version__)"
        print(_podman(*inside, versions).strip())  # noqa: T201
        print(_podman("exec", container, "id").strip())  # noqa: T201
        refused = subprocess.run(["podman", "exec", container, "touch", "/opt/dreamsite/new"], stderr=subprocess.PIPE)
        assert b"Read-only file system" in refused.stderr, refused.stderr
        _podman("healthcheck", "run", container)
        sign_in = _podman("exec", container, "cat", "/var/lib/dreamsite/first_sign_in")
        token = next(line.split()[-1] for line in sign_in.splitlines() if "API token" in line)
        with _timed("picture"):
            response = httpx.post(
                f"{url}/image-to-image",
                headers={"Authorization": f"Bearer {token}"},
                data={"prompt": "make it night", "num_inference_steps": "2"},
                files={"image": ("a.png", pictures.photo(256, 256))},
                timeout=WAIT_SECONDS,
            )
        assert response.status_code == 200, response.text
        (picture,) = response.json()["images"]
        print(Image.open(io.BytesIO(httpx.get(picture["url"]).content)))  # noqa: T201
        with _timed("stop"):
            _podman("stop", "--time", "30", container)
        (state,) = json.loads(_podman("inspect", "--format", "[{{.State.ExitCode}}]", container))
        assert state == 0, f"exit code {state}"
    finally:
        _podman("rm", "--force", "--volumes", container)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=WAIT_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def _podman(*arguments: str) -> str:
    """Return what podman prints."""
    return subprocess.run(["podman", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def _timed(name: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
