"""The bare pipeline behind other servers, for `tests.tools.bench_peers`: `python -m tests.tools.peer_servers NAME PORT`.

They run in an environment of their own, which has LitServe and FastAPI. Each has two workers of one thread.
"""

import sys
import threading
from collections.abc import Callable
from io import BytesIO

import litserve
import uvicorn
from fastapi import FastAPI, Request, Response, UploadFile
from PIL import Image

from tests.tools import bare_pipeline

DTYPE = "float32"
WORKERS = 2
_TIMEOUT_SECONDS = 600


def fastapi_app() -> FastAPI:
    """Return an app of a process whose requests take turns, since a pipeline can run one call at a time."""
    app = FastAPI()
    run = bare_pipeline.load(DTYPE)
    turn = threading.Lock()

    def edit(image: UploadFile) -> Response:
        with turn:
            return _response(run(image.file.read()))

    async def health() -> dict[str, str]:
        return {}

    app.add_api_route("/edit", edit, methods=["POST"])
    app.add_api_route("/health", health)
    return app


class Edit(litserve.LitAPI):  # type: ignore[misc]  # not installed where types are checked
    def setup(self, device: str) -> None:
        self._run = bare_pipeline.load(DTYPE)

    def decode_request(self, request: Request) -> bytes:
        """Return the upload. By the annotation LitServe reads the request as a form, and passes the form."""
        upload: bytes = request["image"].file.read()
        return upload

    def predict(self, upload: bytes) -> Image.Image:
        return self._run(upload)

    def encode_response(self, picture: Image.Image) -> Response:
        return _response(picture)


def _response(picture: Image.Image) -> Response:
    png = BytesIO()
    picture.save(png, "PNG")
    return Response(png.getvalue(), media_type="image/png")


def _run_fastapi(port: int) -> None:
    uvicorn.run(f"{__spec__.name}:fastapi_app", factory=True, port=port, workers=WORKERS, log_level="warning")


def _run_litserve(port: int) -> None:
    server = litserve.LitServer(
        Edit(api_path="/edit"),
        accelerator="cpu",
        workers_per_device=WORKERS,
        timeout=_TIMEOUT_SECONDS,
        restart_workers=True,
    )
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


SERVERS: dict[str, Callable[[int], None]] = {"fastapi": _run_fastapi, "litserve": _run_litserve}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
