"""Errors of the hub in words: what was wrong, and what staff can do about it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from generation.repositories.downloads import Corrupt, DiskFull

_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429


class HubFailed(Exception):
    """The hub did not give what was asked for. `message` is for staff."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@contextmanager
def explained(repository: str, revision: str, models_dir: Path) -> Iterator[None]:
    """Raise the errors of the hub's client and of downloads within this context as `HubFailed`."""
    try:
        yield
    except (
        httpx2.HTTPError,
        httpx2.InvalidURL,
        OSError,
        EntryNotFoundError,
        HFValidationError,
        DiskFull,
        Corrupt,
    ) as error:
        raise HubFailed(explain(error, repository, revision, models_dir)) from error


def explain(error: Exception, repository: str, revision: str, models_dir: Path) -> str:
    """Return what went wrong with this repository, in sentences."""
    if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        detail = str(error) if isinstance(error, DiskFull) else "it became full during the download"
        return (
            f"{repository} does not fit on the disk of {models_dir}: {detail}. "
            "Remove other models, or set MODELS_DIR to a larger disk; what was fetched is kept."
        )
    if isinstance(error, Corrupt):
        return f"{repository}: {error}. Download it again; what was fetched rightly is kept."
    hub = constants.ENDPOINT
    has_token = bool(get_token())
    if isinstance(error, GatedRepoError):
        accept = f"{repository} is gated. Accept its licence at {hub}/{repository}"
        if has_token:
            return f"{accept} with the account of HF_TOKEN: the hub refused this token's access."
        return f"{accept}, make a token at {hub}/settings/tokens, and set HF_TOKEN, which is missing."
    if isinstance(error, RepositoryNotFoundError):
        private = "the token in HF_TOKEN may not read it" if has_token else "it is private and HF_TOKEN is missing"
        return f"The hub has no repository {repository}, or {private}. Check the name."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no commit {revision}. Choose one of {hub}/{repository}/commits/main."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repository} at {revision[:12]} lacks a file that its list names. Choose another commit."
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, hub)
    # The client hides a lost connection behind the file that it then misses in its cache.
    cause = error.__cause__ if isinstance(error, EntryNotFoundError) and error.__cause__ else error
    return (
        f"The hub at {hub} cannot be reached ({_first_line(cause)}). Check the network, a proxy, and HF_ENDPOINT; "
        "what was fetched is kept."
    )


def _explain_status(error: HfHubHTTPError, hub: str) -> str:
    status = error.response.status_code
    if status == _UNAUTHORIZED:
        return f"The hub refused HF_TOKEN as invalid or expired. Make another at {hub}/settings/tokens."
    if status == _TOO_MANY_REQUESTS:
        return "The hub answers that there were too many requests. Try again later; with HF_TOKEN it allows more."
    return f"The hub at {hub} answered with the status {status}. Try again later."


def _first_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.errno else str(error)
    lines = (text or type(error).__name__).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def offline(repository: str, models_dir: Path) -> HubFailed:
    """Return the error of a download while `MODELS_OFFLINE` is on."""
    return HubFailed(
        f"MODELS_OFFLINE is on, so nothing is downloaded. Turn it off, or put {repository} into "
        f"{models_dir}{os.sep}{repository}."
    )
