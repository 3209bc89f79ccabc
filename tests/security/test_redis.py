"""Whoever can write to Redis has nothing called, read or shown that the service did not put there itself."""

import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.support.service import Service, post, submit, wait_until

JOB_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def redis(service: Service) -> Any:
    """The Redis of the real service, as an intruder has it."""
    return Redis(unix_socket_path=str(service.data_dir / "redis.sock"))


def forge_job(redis: Any, marker: Path) -> None:
    """Write a job whose function creates the marker."""
    code = f"import pathlib; pathlib.Path({str(marker)!r}).touch()"
    forged = {
        "data": zlib.compress(json.dumps(["builtins.exec", None, [code], {}]).encode()),
        "created_at": "2026-01-01T00:00:00.000000Z",
        "origin": "default",
        "status": "queued",
    }
    redis.hset(f"rq:job:{JOB_ID}", mapping=forged)


def test_a_forged_job_calls_nothing_and_the_worker_goes_on(service: Service, redis: Any, tmp_path: Path) -> None:
    marker, worker = tmp_path / "marker", service.worker()
    forge_job(redis, marker)
    redis.rpush("rq:queue:default", JOB_ID, "not an id", b"\xff", "")
    wait_until(lambda: not redis.llen("rq:queue:default"), "the end of the forged jobs")
    assert post(service).status_code == 200
    assert not marker.exists()
    assert service.workers() == [worker]
    assert not redis.exists(f"rq:job:{JOB_ID}")


def test_the_worker_hears_no_commands_of_rq(service: Service, redis: Any) -> None:
    worker = service.worker()
    redis.set("rq:suspended", 1)
    try:
        for key in redis.smembers("rq:workers"):
            channel = key.replace(b"rq:worker:", b"rq:pubsub:")
            # The number of those who heard it.
            assert redis.publish(channel, json.dumps({"command": "shutdown"})) == 0
        assert post(service).status_code == 200
    finally:
        redis.delete("rq:suspended")
    assert service.workers() == [worker]


def test_an_event_names_no_file_and_no_other_page(service: Service, redis: Any) -> None:
    """An event of the intruder's own generation that names the file of somebody else's is not signed."""
    other = str(post(service).json()["id"])
    (name, *_) = (str(path.relative_to(service.data_dir / "media")) for path in service.files_of(other))
    forged = [
        ("image", {"index": 0, "name": name}),
        ("image", {"index": 0, "attempt": f"1-0.png/../../{other}/1"}),
        ("preview", {"index": 0, "image": "https://example.org/seen.png"}),
        ("x\nevent: image", {"url": "https://example.org/seen.png"}),
        ("started", []),
    ]
    with service.paused_worker():
        generation_id = submit(service)
        stream = f"dreamsite:stream:{generation_id}"
        for event, data in forged:
            redis.xadd(stream, {"event": event, "data": json.dumps(data)})
        redis.xadd(stream, {"event": "progress", "data": b"\xff"})
        redis.xadd(stream, {"nothing": ""})
        redis.set(f"dreamsite:progress:{generation_id}", "[]")
        for entry in (
            {"id": "nobody", "event": "image"},
            {"nothing": b"\xff"},
            {"id": generation_id, "event": "image"},
        ):
            redis.xadd("dreamsite:events", entry)
        with service.client() as client, client.stream("GET", f"/generations/{generation_id}/events") as response:
            lines = response.iter_lines()
            begin = "\n".join(line for line in iter(lambda: next(lines), "event: queued"))
            os.kill(service.worker(), signal.SIGCONT)
            text = begin + "\n".join(lines)
    assert "event: succeeded" in text
    assert text.count("event: image") == 1
    assert other not in text
    assert "example.org" not in text
    assert post(service).status_code == 200


def test_an_entry_that_no_worker_wrote_is_no_worker(service: Service, redis: Any) -> None:
    key = "dreamsite:worker:forged"
    redis.sadd("dreamsite:workers", "forged")
    for text in ("[]", '{"name": "forged"}', b"\xff", '{"pid": "x"}'):
        redis.set(key, text, ex=600)
        assert httpx.get(f"{service.url}/ready").status_code == 200
    redis.delete(key)
