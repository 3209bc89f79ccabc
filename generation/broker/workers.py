"""The registry of workers: one key for each, written with every heartbeat, and a set of their names."""

import json
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from generation.broker.connection import redis_client

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 3 * HEARTBEAT_SECONDS
"""A worker without a heartbeat for this long is stale."""

_NAMES = "dreamsite:workers"
"""The names of all: to scan the keys for those of workers takes longer the more generations have keys."""

SAME_KEY = (
    "Set WATERMARK_KEY on all hosts to the one whose pictures are to stay known, such as what is in the file watermark_key in "
    "DATA_DIR of the first host, and restart the others."
)
"""What to do if hosts have different keys."""

_KEY = "dreamsite:worker:"
_LISTED_SECONDS = 3600
"""How long a worker without a heartbeat is still listed."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's entry in the registry.

    Memory is in bytes, `started` a Unix time, `models` the loaded ones, `plans` their memory plans in words by model,
    `missing` the enabled ones whose weights are not on the host's disk, `environments` the digests of what each loaded one
    computes with, without LoRAs, and `loras` the SHA-256 of the files of all loaded LoRAs. `watermark_key` names its key, as
    `generation.images.certificates.key_name` does; empty: a release before wrote the entry. `problem` is a sentence on why the
    default model is not loaded, or nothing can be stored; else empty. `seconds_since_heartbeat` is measured by Redis's clock.
    """

    name: str
    pool: str
    host: str
    pid: _Count
    device: str
    memory_used: _Count
    memory_total: _Count
    started: FiniteFloat
    models: list[str] = field(default_factory=list)
    plans: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    environments: dict[str, str] = field(default_factory=dict)
    loras: list[str] = field(default_factory=list)
    watermark_key: str = ""
    is_drained: bool = False
    problem: str = ""
    seconds_since_heartbeat: float = 0.0

    @property
    def is_stale(self) -> bool:
        return self.seconds_since_heartbeat > STALE_SECONDS

    @property
    def placed_models(self) -> list[tuple[str, str]]:
        """The loaded models, each with its memory plan."""
        return [(model, self.plans.get(model, "")) for model in self.models]

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        return not (self.is_stale or self.is_drained)


_ENTRY = TypeAdapter(WorkerInfo)


def new_name() -> str:
    return f"{socket.gethostname()}-{time.time_ns():x}"


def heartbeat(worker: WorkerInfo) -> None:
    """Write the worker's entry; call it every `HEARTBEAT_SECONDS`. Raises `RedisError`."""
    with redis_client().pipeline(transaction=False) as pipe:
        pipe.set(_KEY + worker.name, json.dumps(asdict(worker)), ex=_LISTED_SECONDS)
        pipe.sadd(_NAMES, worker.name)
        pipe.execute()


def remove(name: str) -> None:
    """Remove the entry of a worker that has ended. Raises `RedisError`."""
    with redis_client().pipeline(transaction=False) as pipe:
        pipe.delete(_KEY + name)
        pipe.srem(_NAMES, name)
        pipe.execute()


def registered() -> list[WorkerInfo]:
    """Return all workers with a heartbeat within the last hour, by pool and name. Raises `RedisError`."""
    members: Any = redis_client().smembers(_NAMES)
    names: list[bytes] = list(members)
    if not names:
        return []
    with redis_client().pipeline(transaction=False) as pipe:
        for name in names:
            # Not GET, which fails for all if one of them has no text.
            pipe.mget(_KEY.encode() + name)
            pipe.pttl(_KEY.encode() + name)
        replies: list[Any] = pipe.execute()
    texts, ttls = [text for (text,) in replies[::2]], replies[1::2]
    if gone := [name for name, text in zip(names, texts, strict=True) if text is None]:
        # One that begins to send heartbeats again adds itself.
        redis_client().srem(_NAMES, *gone)
    workers = [
        replace(worker, seconds_since_heartbeat=max(0.0, _LISTED_SECONDS - ttl / 1000))
        for text, ttl in zip(texts, ttls, strict=True)
        if text and (worker := _parse(text))
    ]
    return sorted(workers, key=lambda worker: (worker.pool, worker.name))


def ready() -> list[WorkerInfo]:
    """Return the workers that take work. Raises `RedisError`."""
    return [worker for worker in registered() if worker.is_ready]


def by_watermark_key(registered: Sequence[WorkerInfo], own: str) -> dict[str, list[str]]:
    """Return the hosts of running workers whose watermark key is not `own`, by the name of their key."""
    hosts: dict[str, list[str]] = {}
    for worker in registered:
        if worker.watermark_key not in ("", own) and not worker.is_stale:
            named = hosts.setdefault(worker.watermark_key, [])
            named += [] if worker.host in named else [worker.host]
    return hosts


def _parse(text: bytes) -> WorkerInfo | None:
    """Return an entry of the registry, None if no worker of this version wrote it."""
    try:
        return _ENTRY.validate_json(text)
    except ValidationError as error:
        logger.warning("an entry of the registry of workers cannot be read: %s", error)
        return None
