"""`manage.py serve`: run the whole service on one machine."""

import fcntl
import http.client
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.http.request import validate_host

from accounts.models import ApiToken, User
from dreamsite import checks, embedded_redis, health
from dreamsite.host_names import WILDCARDS, host_names, url_host
from dreamsite.supervisor import Child, Supervisor, run_program
from dreamsite.worker_setup import WORKER_GRACE, can_fork, worker_setups
from generation.images import samples

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
FIRST_SIGN_IN = "first_sign_in"
"""The file in DATA_DIR with the first administrator's password and API token, readable by the owner of the process."""


class Command(BaseCommand):
    help = "Migrate the database, and run Redis, the web process, the workers and the reaper; restart what ends."
    requires_system_checks = [checks.SETTINGS]

    def handle(self, *args: Any, **options: Any) -> None:
        lock = _lock(settings.DATA_DIR / "serve.lock")
        with closing(lock), closing(_listen(settings.HOST, settings.PORT)) as listener:
            port = listener.getsockname()[1]
            supervisor = Supervisor()
            try:
                address = url_host(_local_address(settings.HOST))
                self._start(supervisor, listener, f"http://{address}:{port}{settings.URL_PREFIX}")
                supervisor.run()
            finally:
                supervisor.stop()

    def _start(self, supervisor: Supervisor, listener: socket.socket, url: str) -> None:
        if settings.REDIS_EMBEDDED:
            embedded_redis.stop_orphan(settings.DATA_DIR)
            supervisor.start([Child("redis", partial(run_program, embedded_redis.command(settings.DATA_DIR)))])
            embedded_redis.wait_until_answering(settings.DATA_DIR)
        call_command("migrate", interactive=False, verbosity=0)
        self._create_administrator(url)
        # The program that runs this one: manage.py, or the `dreamsite` of an installed wheel.
        manage = [sys.executable, sys.argv[0]]
        listener.set_inheritable(True)
        supervisor.start(
            [
                Child(
                    "web", partial(run_program, [*manage, "web", "--fd", str(listener.fileno())], [listener.fileno()])
                ),
                Child("reaper", partial(run_program, [*manage, "reaper"])),
                *_workers(manage),
            ]
        )
        while not supervisor.is_stopping:
            supervisor.restart_ended()
            if _is_alive(listener) and not health.missing():
                self.stdout.write(f"ready {url}")
                if settings.HOST in WILDCARDS:
                    self.stdout.write(f"on the network: {' '.join(_network_addresses(listener.getsockname()[1]))}")
                self.stdout.flush()
                return
            time.sleep(_POLL_SECONDS)

    def _create_administrator(self, url: str) -> None:
        """Create an administrator and a token if there is no administrator yet, and write both to a file.

        They are printed to a terminal alone, since other output ends in logs.
        """
        if User.objects.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        admin = User.objects.create_superuser("admin", password=password)
        _, raw = ApiToken.objects.issue(admin, "first token")
        sample = os.path.relpath(samples.PHOTO) if samples.PHOTO.is_relative_to(Path.cwd()) else str(samples.PHOTO)
        sign_in = (
            f"  user       {admin.username}\n"
            f"  password   {password}\n"
            f"  API token  {raw}\n\n"
            f"  your pictures  {url}/\n"
            f"  admin          {url}/admin/\n"
            f"  API            {url}/docs\n\n"
            "When it is ready, try:\n\n"
            f"  curl {url}/image-to-image -H 'Authorization: Bearer {raw}' \\\n"
            f"    -F prompt='make it night' -F image=@{sample}\n"
        )
        path = settings.DATA_DIR / FIRST_SIGN_IN
        path.touch(mode=0o600)
        path.write_text(sign_in)
        self.stdout.write(
            "This is the first start, so an administrator was created. Password and API token are in the file\n\n"
            f"  {path}\n\nwhich only you can read. Keep them elsewhere and delete it.\n"
        )
        if self.stdout.isatty():
            self.stdout.write(sign_in)
        self.stdout.flush()


def _workers(manage: Sequence[str]) -> Iterator[Child]:
    """Yield what runs the workers of this machine. `manage` is the command that runs Dreamsite's commands."""
    setups = worker_setups(settings.DEVICE)
    if can_fork(setups):
        # Its own children have their grace first.
        yield Child("workers", partial(run_program, [*manage, "workers"]), WORKER_GRACE + 10)
        return
    for setup in setups:
        options = [
            f"--pool={setup.pool}",
            f"--threads={setup.threads}",
            f"--neighbours={setup.neighbours}",
            f"--gpu-neighbours={setup.gpu_neighbours}",
        ]
        environment = {} if setup.gpu is None else {"CUDA_VISIBLE_DEVICES": setup.gpu}
        program = partial(run_program, [*manage, "worker", *options], environment=environment)
        yield Child(setup.name, program, WORKER_GRACE)


def _lock(path: Path) -> Any:
    """Lock DATA_DIR for this process. The kernel releases the lock when the process ends."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise CommandError(
            f"Another serve is running on DATA_DIR {path.parent}; stop it, or set DATA_DIR to another directory."
        ) from None
    return file


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. It stays open in this process, so that clients wait while the web process restarts."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"Cannot listen on {host} port {port} ({reason}); set HOST and PORT to free ones.") from None


def _is_alive(listener: socket.socket) -> bool:
    host, port = listener.getsockname()[:2]
    connection = http.client.HTTPConnection(_local_address(host), port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _local_address(host: str) -> str:
    """Return the address at which a server that listens on `host` can be reached from this machine."""
    version = WILDCARDS.get(host)
    return host if version is None else "127.0.0.1" if version == 4 else "::1"


def _network_addresses(port: int) -> list[str]:
    """Return the addresses at which other machines may reach a server that listens on all of them."""
    names = [name for name in host_names(settings.HOST) if validate_host(name, settings.ALLOWED_HOSTS)]
    return [f"http://{name}:{port}{settings.URL_PREFIX}" for name in names]
