"""Entries that an intruder wrote to Redis make no page fail: they are left out, as if nobody had written them."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from generation.broker import progress, workers
from generation.broker.connection import redis_client
from generation.models import State
from tests.support.generations import make_generation

pytestmark = pytest.mark.usefixtures("redis")

DEEP = "[" * 100_000
HALF_A_CHARACTER = r"\ud800"


@pytest.mark.parametrize(
    "text",
    [DEEP, f'[1, 2, "{HALF_A_CHARACTER}"]', '[1, 2, "<b>"]', '[-1, 2, "denoising"]', f'[1, 1{"0" * 400}, "denoising"]'],
    ids=["deep", "half a character", "markup", "negative", "huge"],
)
def test_forged_progress_is_none(client: Client, alice: User, text: str) -> None:
    row = make_generation(alice, State.RUNNING)
    client.force_login(alice)
    redis_client().set(f"dreamsite:progress:{row.pk}", text)
    assert progress.latest([row.pk]) == {}
    assert client.get("/history/").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        DEEP,
        '{"index": 0, "image": "data:image/svg+xml,<svg/>"}',
        f'{{"index": 0, "image": "data:image/webp;base64,{HALF_A_CHARACTER}"}}',
        '{"index": 0, "image": "data:image/webp;base64,\\" onload="}',
    ],
    ids=["deep", "not pixels", "half a character", "markup"],
)
def test_a_forged_preview_is_none(client: Client, alice: User, data: str) -> None:
    row = make_generation(alice, State.RUNNING)
    client.force_login(alice)
    redis_client().xadd(progress.stream_key(row.pk), {"event": "preview", "data": data})
    assert progress.previews([row.pk]) == {}
    assert client.get("/history/").status_code == 200


def test_a_forged_entry_hides_no_worker(client: Client, charlie: User) -> None:
    entry: dict[str, Any] = {"name": "w", "pool": "default", "host": "h", "pid": 1, "device": "cuda:0", "started": 1.0}
    entry |= {"memory_used": 1, "memory_total": 2}
    workers.heartbeat(workers.WorkerInfo(**entry))
    redis_client().lpush("dreamsite:worker:list", "x")
    forged: list[dict[str, Any]] = [{"memory_used": 10**400}, {"memory_total": -1}, {"pid": 10**400}]
    forged.append({"started": float("inf")})
    for number, change in enumerate(forged):
        redis_client().set(f"dreamsite:worker:{number}", json.dumps(entry | {"name": "forged"} | change))
    redis_client().set("dreamsite:worker:deep", DEEP)
    redis_client().sadd("dreamsite:workers", "list", "deep", "nobody", b"\xff", *range(len(forged)))
    assert [worker.name for worker in workers.registered()] == ["w"]
    client.force_login(charlie)
    assert client.get("/admin/operations/").status_code == 200
