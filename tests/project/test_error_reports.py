"""Reports to Sentry: what failed where, and nothing that a user wrote or sent."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sentry_sdk
from django.test import Client
from django.urls import reverse
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from accounts import request_ids
from accounts.models import ApiToken
from dreamsite import error_reports
from generation.jobs import queue
from generation.parameters import ImageToImageParameters
from tests.support.environment import ROOT
from tests.support.execution import run_batch
from tests.support.jobs import submit

DSN = "http://key@127.0.0.1:9/1"
# Far from the code that fails, since reports have lines of source around it.
PROMPT = "a secret birthday party"
QUERY = "signature=a-secret-signature"
COOKIE = "sessionid=a-secret-session"


class Recorder(Transport):
    """Keeps what would be sent, as text."""

    sent: list[str] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope.serialize().decode())


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The reports of this test, as they would be sent."""
    Recorder.sent.clear()
    error_reports.start(DSN, Recorder)
    yield Recorder.sent
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def event(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.splitlines()[2])
    return found


def raise_with_words(words: str) -> None:
    raise RuntimeError(f"cannot draw {words}")


def test_a_report_says_where_and_not_what(sent: list[str]) -> None:
    with request_ids.bind("request-7"):
        try:
            raise_with_words(PROMPT)
        except RuntimeError:
            logging.getLogger("generation.worker.execution").exception("the batch of %s failed", PROMPT)
    (text,) = sent
    report = event(text)
    assert report["tags"] == {"request_id": "request-7"}
    assert report["logentry"] == {"message": "the batch of %s failed"}
    (exception,) = report["exception"]["values"]  # type: ignore[index]
    assert (exception["type"], "value" in exception) == ("RuntimeError", False)
    frames = exception["stacktrace"]["frames"]
    assert [frame["function"] for frame in frames][-1] == "raise_with_words"
    assert "raise RuntimeError" in frames[-1]["context_line"]
    assert not any("vars" in frame for frame in frames)
    assert PROMPT not in text


@pytest.mark.django_db
def test_a_failed_request_is_reported_without_its_words_headers_and_address(
    client: Client, alices_token: str, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **fields: object) -> None:
        raise RuntimeError(str(arguments))

    monkeypatch.setattr(ImageToImageParameters, "from_form", fail)
    client.raise_request_exception = False
    answer = client.post(
        f"{reverse('image-to-image')}?{QUERY}",
        {"prompt": PROMPT, "image": (ROOT / "dreamsite" / "static" / "sample.jpg").open("rb")},
        headers={"Authorization": f"Bearer {alices_token}", "Cookie": COOKIE},
    )
    assert answer.status_code == 500
    assert sent
    for text in sent:
        for secret in (PROMPT, QUERY, COOKIE, alices_token, "JFIF"):
            assert secret not in text


@pytest.mark.usefixtures("redis", "tiny_edit")
@pytest.mark.django_db(transaction=True)
def test_a_failed_run_is_reported_without_its_words(alices: ApiToken, sent: list[str]) -> None:
    submit(alices, prompt=PROMPT)
    batch = queue.claim("default", "worker-1", {})

    class Broken:
        def make_images(self, items: object, *more: object) -> None:
            raise RuntimeError(str(items))

    run_batch(batch, Broken())  # type: ignore[arg-type]
    (text,) = sent
    assert event(text)["logentry"] == {"message": "the batch of generation %s failed unexpectedly"}
    assert PROMPT not in text


def test_messages_of_other_packages_are_left_out(sent: list[str]) -> None:
    logging.getLogger("transformers").error(f"cannot tokenize {PROMPT}")
    logging.getLogger("generation.worker").warning("no error")
    (text,) = sent
    assert "logentry" not in event(text)
    assert PROMPT not in text


def test_nothing_is_sent_of_what_an_integration_adds() -> None:
    collected = {
        "event_id": "7",
        "message": PROMPT,
        "request": {"url": "/s/code", "data": PROMPT, "headers": {"Authorization": "Bearer x"}},
        "user": {"ip_address": "192.0.2.1"},
        "breadcrumbs": {"values": [{"message": PROMPT}]},
        "extra": {"argv": [PROMPT]},
        "contexts": {"more": PROMPT},
        "exception": {"values": [{"type": "E", "value": PROMPT, "stacktrace": {"frames": [{"vars": {"a": PROMPT}}]}}]},
    }
    assert error_reports.scrubbed(collected, {}) == {
        "event_id": "7",
        "tags": {},
        "exception": {"values": [{"type": "E", "stacktrace": {"frames": [{}]}}]},
    }


def test_an_invalid_address_ends_the_start_with_a_sentence() -> None:
    environment = {**os.environ, "SENTRY_DSN": "no address"}
    finished = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 1
    assert finished.stderr.strip() == "SENTRY_DSN is not valid; copy it from the project's settings in Sentry."
