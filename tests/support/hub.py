"""A hub of models on loopback: it serves directories as repositories to the real `huggingface_hub`.

It answers as the public hub does: large files are redirected to another address, the list of a gated repository is public
and its files are not, and without a token a missing repository is 401. A file's transfer can be held after some bytes and
cut there, so tests need no clock.
"""

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

_LARGE = (".safetensors", ".gguf", ".bin", ".ckpt", ".pt")
_PIECE = 65536
_WAIT_SECONDS = 180.0


@dataclass(frozen=True)
class File:
    """A file of a repository; `sha256` is set for those that the hub keeps apart from git."""

    path: Path
    size: int
    blob_id: str
    sha256: str = ""

    @property
    def etag(self) -> str:
        return self.sha256 or self.blob_id


@dataclass
class Repository:
    """A directory served as `owner/name`. `card` is the front matter of its README, such as `{"license": "mit"}`.

    With `is_in_xet` its large files are said to be in the hub's chunk store too, which is not here.
    """

    name: str
    directory: Path
    card: dict[str, Any]
    gated: Literal["auto", "manual", False]
    is_private: bool
    is_in_xet: bool
    files: dict[str, File] = field(init=False)
    commit: str = field(init=False)

    def __post_init__(self) -> None:
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        self.files = {path.relative_to(self.directory).as_posix(): _describe(path) for path in paths}
        state = json.dumps([self.name, {name: file.etag for name, file in self.files.items()}])
        self.commit = hashlib.sha1(state.encode(), usedforsecurity=False).hexdigest()

    def info(self, with_files: bool) -> dict[str, Any]:
        return {
            "id": self.name,
            "modelId": self.name,
            "author": self.name.partition("/")[0],
            "sha": self.commit,
            "private": self.is_private,
            "gated": self.gated,
            "disabled": False,
            "tags": [f"license:{self.card['license']}"] if "license" in self.card else [],
            "cardData": self.card,
            "siblings": [_sibling(name, file, with_files) for name, file in self.files.items()],
        }

    def tree(self, folder: str, is_recursive: bool) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        below = {name: file for name, file in self.files.items() if name.startswith(prefix)}
        parents = {parent.as_posix() for name in below for parent in Path(name).parents} - {".", folder}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(parents)]
        entries += [_entry(name, file, self.is_in_xet) for name, file in below.items()]
        return [entry for entry in entries if is_recursive or "/" not in str(entry["path"])[len(prefix) :]]


class Hold:
    """A transfer that stops after some bytes of a file. `reached` is set when it has stopped."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.reached = threading.Event()
        self.is_cut = False
        self._released = threading.Event()

    def release(self) -> None:
        """Send the rest, and hold no later transfer."""
        self._released.set()

    def cut(self) -> None:
        """Close the connection, and each later one that reaches these bytes."""
        self.is_cut = True
        self._released.set()

    def wait(self) -> None:
        """Stop the transfer here. Raises `ConnectionAbortedError` if it is cut."""
        self.reached.set()
        if not self._released.wait(_WAIT_SECONDS) or self.is_cut:
            raise ConnectionAbortedError


class ModelHub:
    """The hub at `url`. `token` may read everything; `other_token` is valid, but may read nothing gated or private.

    `requests` has the method and the path of each request, `served` the files whose content was requested, as
    `owner/name/file`, and `begins` the first byte of each of these transfers.
    """

    token = "hf_tests"
    other_token = "hf_tests_without_access"

    def __init__(self) -> None:
        self._repositories: dict[str, Repository] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self.requests: list[tuple[str, str]] = []
        self.served: list[str] = []
        self.begins: list[int] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="model hub", daemon=True).start()

    def add(
        self,
        name: str,
        directory: Path,
        card: dict[str, Any] | None = None,
        gated: Literal["auto", "manual", False] = False,
        is_private: bool = False,
        is_in_xet: bool = False,
    ) -> Repository:
        """Serve the present files of a directory as `owner/name`, at a commit that depends on them."""
        repository = Repository(name, directory, card or {}, gated, is_private, is_in_xet)
        self._repositories[name] = repository
        return repository

    @contextmanager
    def held(self, name: str, file: str, after: int) -> Iterator[Hold]:
        """Hold each transfer of this file after some of its bytes, within this context."""
        hold = self._holds[name, file] = Hold(after)
        try:
            yield hold
        finally:
            del self._holds[name, file]
            hold.release()

    def find(self, name: str, token: str) -> Repository:
        """Return a repository. Raises `_Refused` as the public hub refuses it to this token."""
        if token and token not in (self.token, self.other_token):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
        repository = self._repositories.get(name)
        if repository is None or (repository.is_private and token != self.token):
            status = HTTPStatus.NOT_FOUND if token else HTTPStatus.UNAUTHORIZED
            raise _Refused(status, "RepoNotFound", "Repository not found")
        return repository

    def hold_of(self, name: str, file: str) -> Hold | None:
        return self._holds.get((name, file))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that ended their connection, as those that are stopped do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """An answer with a status, a code in X-Error-Code, and a message in X-Error-Message."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        self.hub.requests.append((self.command, address.path))
        try:
            self._route(address.path, parse_qs(address.query))
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._send(json.dumps({"error": refused.message}).encode(), refused.status, headers)
        except ConnectionError:
            self.close_connection = True

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        name = r"/(?P<name>[^/]+/[^/]+)"
        if found := re.fullmatch(rf"/api/models{name}(?:/revision/(?P<revision>[^/]+))?", path):
            repository = self._repository(found)
            self._send_json(repository.info("blobs" in query))
        elif found := re.fullmatch(rf"/api/models{name}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", path):
            repository = self._repository(found)
            is_recursive = query.get("recursive", ["False"])[0].lower() in ("true", "1")
            self._send_json(repository.tree(unquote(found["folder"] or ""), is_recursive))
        elif found := re.fullmatch(rf"/api/models{name}/auth-check", path):
            self._check_access(self._repository(found))
            self._send_json({})
        elif found := re.fullmatch(rf"{name}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path):
            self._resolve(self._repository(found), unquote(found["file"]))
        elif found := re.fullmatch(rf"/large{name}/(?P<file>.+)", path):
            # As a signed address elsewhere would be, it is open to everybody who has it.
            repository = self.hub.find(found["name"], self.hub.token)
            file = unquote(found["file"])
            self._send_file(repository, file, repository.files[file])
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "", "Not found")

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _repository(self, found: re.Match[str]) -> Repository:
        repository = self.hub.find(found["name"], self._token)
        revision = unquote(found.groupdict().get("revision") or "main")
        if revision not in ("main", repository.commit):
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository

    def _check_access(self, repository: Repository) -> None:
        if repository.gated and self._token != self.hub.token:
            status = HTTPStatus.FORBIDDEN if self._token else HTTPStatus.UNAUTHORIZED
            words = f"Access to model {repository.name} is restricted and you are not in the authorized list."
            raise _Refused(status, "GatedRepo", words)

    def _resolve(self, repository: Repository, name: str) -> None:
        self._check_access(repository)
        file = repository.files.get(name)
        if file is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        if not file.sha256:
            self._send_file(repository, name, file)
            return
        headers = {
            "Location": f"{self.hub.url}/large/{repository.name}/{quote(name)}",
            "X-Repo-Commit": repository.commit,
            "X-Linked-ETag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.size),
        }
        if repository.is_in_xet:
            headers |= {"X-Xet-Hash": file.sha256, "X-Xet-Refresh-Route": f"{self.hub.url}/no-such-store"}
        self._send(b"", HTTPStatus.FOUND, headers)

    def _send_file(self, repository: Repository, name: str, file: File) -> None:
        """Send a file, or the range that was requested, in pieces, up to the place where it is held."""
        begin, end, status = 0, file.size, HTTPStatus.OK
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin = int(found[1])
            end = min(int(found[2]) + 1, file.size) if found[2] else file.size
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
            if begin >= end:
                raise _Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "", "Range not satisfiable")
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(end - begin)}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.served.append(f"{repository.name}/{name}")
        self.hub.begins.append(begin)
        hold = self.hub.hold_of(repository.name, name)
        with file.path.open("rb") as stream:
            stream.seek(begin)
            while begin < end:
                if hold is not None and begin >= hold.after:
                    hold.wait()
                    hold = None
                until = min(end, hold.after) if hold is not None else end
                piece = stream.read(min(_PIECE, until - begin))
                self.wfile.write(piece)
                begin += len(piece)

    def _send_json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), HTTPStatus.OK, {"Content-Type": "application/json"})

    def _send(self, body: bytes, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _describe(path: Path) -> File:
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    blob_id = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest() if path.suffix in _LARGE else ""
    return File(path, len(content), blob_id, sha256)


def _sibling(name: str, file: File, with_files: bool) -> dict[str, Any]:
    if not with_files:
        return {"rfilename": name}
    large = {"sha256": file.sha256, "size": file.size, "pointerSize": 134} if file.sha256 else None
    return {"rfilename": name, "size": file.size, "blobId": file.blob_id, **({"lfs": large} if large else {})}


def _entry(name: str, file: File, is_in_xet: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": file.blob_id}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        entry |= {"xetHash": file.sha256} if is_in_xet else {}
    return entry


@cache
def model_hub() -> ModelHub:
    """Return the hub of this process, which `HF_ENDPOINT` names."""
    return ModelHub()
