"""Fetch the pictures that requests name by `image_url`, in threads of the reaper's process.

A fetch is leased, so another process begins again if this one dies; an attempt that lost its lease stores nothing.
"""

import logging
import threading
import time
from datetime import timedelta
from io import BytesIO

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from accounts import traces
from generation.images import remote
from generation.images.input_files import read_whole
from generation.images.inputs import Inputs, fitted
from generation.images.storage import StorageFailed
from generation.images.uploads import read_upload
from generation.jobs import input_fetches, queue, submission
from generation.library.stored import stored_mask
from generation.models import Generation, InputFetch, State
from generation.parameters import MESSAGES, ErrorCode, InvalidField
from generation.recipes import refit

logger = logging.getLogger(__name__)

is_allowed = remote.is_public
"""Whether an IP address may be fetched from."""

_SECONDS = 20.0
_MAX_ATTEMPTS = 3
_RETRY_DELAY = timedelta(seconds=5)
_INTERRUPTED = "Fetching the picture at image_url was interrupted three times; send the picture itself."


class InputFetcher:
    """Runs fetches in threads, at most `input_fetches.MAX_FETCHES` at once in all processes."""

    def __init__(self) -> None:
        self._running: dict[threading.Thread, InputFetch] = {}

    def start_due(self) -> None:
        """Start the fetches that may run now. Raises Django's database errors."""
        self._running = {thread: fetch for thread, fetch in self._running.items() if thread.is_alive()}
        # A thread whose lease expired may still run.
        while len(self._running) < input_fetches.MAX_FETCHES and (fetch := input_fetches.claim()):
            thread = threading.Thread(target=_run_in_thread, args=(fetch,), name="fetch", daemon=True)
            self._running[thread] = fetch
            thread.start()

    def release_all(self) -> None:
        """Let other processes begin again at once with what still runs here. Raises Django's database errors."""
        for fetch in self._running.values():
            fetch.release()


def run(fetch: InputFetch) -> None:
    """Fetch, check and store a picture, so that workers may claim its generation, or end that as failed."""
    with traces.continued(fetch.generation):
        if fetch.generation.state != State.QUEUED:
            # It ended, and the process that had the fetch died.
            input_fetches.finish(fetch)
            return
        if fetch.attempt > _MAX_ATTEMPTS:
            _fail(fetch, ErrorCode.INTERNAL, _INTERRUPTED)
            return
        start = time.monotonic()
        try:
            _fetch(fetch)
        finally:
            input_fetches.charge(fetch.generation.user, time.monotonic() - start)


def _run_in_thread(fetch: InputFetch) -> None:
    try:
        run(fetch)
    except (OperationalError, InterfaceError) as error:
        # The lease expires, and the next attempt begins.
        logger.warning(
            "the fetch for generation %s waits: the database cannot be reached: %r", fetch.generation_id, error
        )
    finally:
        connections.close_all()


def _fetch(fetch: InputFetch) -> None:
    generation: Generation = fetch.generation
    try:
        url = generation.get_parameters().image_url
        content = remote.fetch(url, max_bytes=settings.MAX_UPLOAD_BYTES, seconds=_SECONDS, allow=is_allowed)
        mask = stored_mask(generation)
        read = read_whole if mask else read_upload
        picture = read(BytesIO(content), max_pixels=settings.MAX_UPLOAD_PIXELS)
        inputs, mask_warnings = fitted(Inputs(picture, mask))
        recipe, warnings = refit(
            generation.get_recipe(),
            generation.get_parameters(),
            picture.size,
            generation.model.limits(),
            inputs.mask.open_box(picture.size) if inputs.mask else None,
        )
        submission.attach_input(fetch, inputs, recipe, [*mask_warnings, *warnings])
    except remote.RemoteRefused as error:
        _refuse(fetch, error.message)
    except InvalidField as error:
        _refuse(fetch, f"The picture at image_url was refused: {error}.")
    except StorageFailed:
        logger.exception("the fetched input of generation %s cannot be stored", fetch.generation_id)
        if fetch.attempt < _MAX_ATTEMPTS:
            fetch.release(_RETRY_DELAY)
        else:
            _fail(fetch, ErrorCode.STORAGE_FAILED, MESSAGES[ErrorCode.STORAGE_FAILED])
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("the input of generation %s cannot be understood", fetch.generation_id)
        _fail(fetch, ErrorCode.INTERNAL, MESSAGES[ErrorCode.INTERNAL])


def _refuse(fetch: InputFetch, reason: str) -> None:
    logger.warning("the input of generation %s was not fetched: %s", fetch.generation_id, reason)
    _fail(fetch, ErrorCode.IMAGE_URL_REFUSED, reason)


def _fail(fetch: InputFetch, code: ErrorCode, message: str) -> None:
    """End the generation as failed if it still waits and this attempt has the lease."""
    if fetch.lease().exists():
        waiting = Generation.objects.filter(pk=fetch.generation_id, state=State.QUEUED)
        queue.end(fetch.generation_id, waiting, State.FAILED, code, message, cost=0.0)
        # Last: if the process dies before, the next attempt finds a generation that has ended.
        input_fetches.finish(fetch)
