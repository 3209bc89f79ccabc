"""Deleted for good: no word and no pixel of a deleted generation is left in any file of the service."""

import io
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import httpx
from PIL import Image

from tests.support.service import Service, wait_until

_EXPORT = (
    "from accounts.models import User; from generation.maintenance import data_export; "
    "data_export.request(User.objects.get(username='admin'))"
)


# The bundled models read no further pictures, so what submission would store of one is stored here.
_REFERENCE = """
import io, os
from PIL import Image
from generation.images.inputs import Inputs
from generation.images.uploads import read_upload
from generation.library import files
from generation.library.stored_inputs import EncodedInputs
from generation.models import Generation
file = io.BytesIO()
Image.frombytes("RGB", (128, 128), os.urandom(3 * 128 * 128)).save(file, "PNG")
generation = Generation.objects.get(pk="{}")
inputs = Inputs(references=[read_upload(file, max_pixels=1 << 20)])
(reference,) = EncodedInputs.of(inputs).store(generation)
reference.save()
files.unstage(generation)
"""


def found(directory: Path, markers: Iterable[bytes]) -> set[bytes]:
    """Return those markers that are in a file of the directory."""
    contents = []
    for path in directory.rglob("*"):
        try:
            contents.append(path.read_bytes() if path.is_file() else b"")
        except FileNotFoundError:
            continue
    return {marker for marker in markers if any(marker in content for content in contents)}


def word() -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(24))


def noise() -> bytes:
    """Return a picture that no other test sends, so that no other generation has its pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (128, 128), secrets.token_bytes(3 * 128 * 128)).save(file, "PNG")
    return file.getvalue()


def noise_mask() -> bytes:
    file = io.BytesIO()
    Image.frombytes("1", (128, 128), secrets.token_bytes(128 * 128 // 8)).save(file, "PNG")
    return file.getvalue()


def generate(service: Service, client: httpx.Client, words: list[str]) -> tuple[str, bytes]:
    """Make a generation whose preview is watched and whose answer is kept. Return its id and a part of the preview."""
    prompt, negative_prompt = words
    fields = {"prompt": prompt, "negative_prompt": negative_prompt, "num_inference_steps": "2"}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    files = {"image": noise(), "mask": noise_mask()}
    preview = b""
    with service.paused_worker():
        accepted = client.post(
            "/image-to-image", data=fields, files=files, headers={**headers, "Prefer": "respond-async"}
        )
        request = client.build_request("GET", f"/generations/{accepted.json()['id']}/events")
        stream = client.send(request, stream=True)
        lines = stream.iter_lines()
        next(lines)
    for line in lines:
        if line.startswith("data:") and "data:image" in line:
            preview = json.loads(line.removeprefix("data:"))["image"][-60:].encode()
    stream.close()
    assert client.post("/image-to-image", data=fields, files=files, headers=headers).status_code == 200
    return accepted.json()["id"], preview


def test_nothing_of_a_deleted_generation_is_left(service: Service) -> None:
    words = [word(), word()]
    with service.client() as client:
        generation_id, preview = generate(service, client, words)
        service.manage("shell", "-v", "0", "-c", _REFERENCE.format(generation_id))
        pixels = [
            content[len(content) // 2 :][:40] for content in map(Path.read_bytes, service.files_of(generation_id))
        ]
        assert len(pixels) == 8
        # The index stores only what a word does not have in common with the one before it.
        markers = {*(marker[4:].encode() for marker in words), *pixels, preview}
        service.manage("shell", "-v", "0", "-c", _EXPORT)
        wait_until(lambda: len(list((service.data_dir / "media/exports").glob("*.zip"))) == 1, "the export")
        assert found(service.data_dir, markers) >= markers - {preview}
        assert client.delete(f"/generations/{generation_id}").status_code == 204
    wait_until(lambda: not found(service.data_dir, markers), "the sweep")
    assert not list((service.data_dir / "media/exports").glob("*.zip"))
