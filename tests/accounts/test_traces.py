"""`traceparent`, as W3C's Trace Context defines it, and the log as JSON lines."""

import json
import os
import subprocess
import sys

import pytest

from accounts import traces
from tests.support.environment import ROOT

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LOG = f"""
import logging
from types import SimpleNamespace
from accounts import traces
row = SimpleNamespace(request_id="request-7", traceparent="00-{TRACE}-{PARENT}-01")
with traces.continued(row, SimpleNamespace(request_id="request-8", traceparent="")):
    try:
        raise ValueError("a line\\nand another")
    except ValueError:
        logging.getLogger("generation.worker").exception("the run of %s failed", "ü")
logging.getLogger("generation.worker").warning("later")
logging.getLogger("dreamsite.security").info("token.issue")
"""


@pytest.mark.parametrize(("flags", "kept"), [("00", "00"), ("01", "01"), ("03", "01"), ("fe", "00")])
def test_a_valid_value_is_kept_with_the_flag_for_sampling(flags: str, kept: str) -> None:
    assert traces.valid([f"00-{TRACE}-{PARENT}-{flags}"]) == f"00-{TRACE}-{PARENT}-{kept}"


def test_of_later_versions_the_known_fields_are_read() -> None:
    for rest in ("", "-", "-more-of-it"):
        assert traces.valid([f"cc-{TRACE}-{PARENT}-01{rest}"]) == f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01\n",
        f"cc-{TRACE}-{PARENT}-01more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0g",
        f"٠٠-{TRACE}-{PARENT}-01",
    ],
)
def test_anything_else_is_no_trace(text: str) -> None:
    assert traces.valid([text]) == ""


def test_two_values_are_none() -> None:
    assert traces.valid([]) == traces.valid([f"00-{TRACE}-{PARENT}-01"] * 2) == ""


def test_each_line_of_the_log_is_an_object_with_the_ids_of_its_request() -> None:
    finished = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", LOG],
        cwd=ROOT,
        env={**os.environ, "LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=True,
    )
    failure, later, security = map(json.loads, finished.stderr.splitlines())
    assert failure.pop("exception").endswith("ValueError: a line\nand another")
    assert failure.pop("time") <= later.pop("time") <= security.pop("time")
    assert failure == {
        "level": "ERROR",
        "logger": "generation.worker",
        "message": "the run of ü failed",
        "request_id": "request-7,request-8",
        "trace_id": TRACE,
    }
    assert later == {"level": "WARNING", "logger": "generation.worker", "message": "later"}
    assert security == {"event": "token.issue"}
