"""`manage.py rehearse_upgrade`: try this version on the last backup, beside the service that runs."""

import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from dreamsite import checks
from dreamsite.management.commands.backup import absolute, add_place, read_passphrase


class Command(BaseCommand):
    help = (
        "Restore the newest backup into a temporary directory, migrate it with this version, and make a picture with each"
        " enabled model. The running service, its database and storage are not touched."
    )
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_place(parser)
        parser.add_argument("--name", default="", help="The backup (default: the newest).")
        parser.add_argument(
            "--database-url", default="", help="With PostgreSQL: the address of an empty database for the rehearsal."
        )
        parser.add_argument(
            "--folder", type=Path, default=settings.DATA_DIR, help="Where to put it meanwhile (default: DATA_DIR)."
        )
        parser.add_argument("--without-files", action="store_true", help="Restore only database and secret keys.")

    def handle(
        self,
        *args: Any,
        place: str,
        passphrase_file: Path | None,
        name: str,
        database_url: str,
        folder: Path,
        without_files: bool,
        **options: Any,
    ) -> None:
        passphrase = read_passphrase(passphrase_file)
        if connection.vendor == "postgresql" and not database_url:
            raise CommandError("Create an empty database, name it by --database-url, and drop it afterwards.")
        if database_url and database_url == settings.DATABASE_URL:
            raise CommandError("--database-url names the database of the service; create an empty one beside it.")
        if not folder.is_dir():
            raise CommandError(f"There is no directory {folder}; create it, or choose another one.")
        place = absolute(place)
        with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=folder) as data_dir:
            environment = _environment(Path(data_dir), database_url, passphrase)
            restore = ["restore", place, *(["--name", name] if name else [])]
            # Files of a bucket are only listed in backups.
            restore += ["--without-files"] if without_files or settings.S3_BUCKET else []
            self._step("restore", restore, environment)
            self._step("migrate", ["migrate", "--no-color"], environment)
            self._step("pictures", ["try_models"], environment)
        self.stdout.write("The upgrade can be done: nothing failed.")

    def _step(self, title: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Run a command of this version, and print what it says and how long it takes. Raises `CommandError` if it fails."""
        started = time.monotonic()
        command = [sys.executable, sys.argv[0], *arguments]
        finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = finished.stdout.strip().splitlines()
        self.stdout.write(f"{title}, {time.monotonic() - started:.1f} s")
        self.stdout.write("".join(f"  {line.strip()}\n" for line in lines))
        self.stdout.flush()
        if finished.returncode:
            raise CommandError(
                f"The upgrade would fail: {arguments[0]} ended with status {finished.returncode}; see above."
            )


def _environment(data_dir: Path, database_url: str, passphrase: str) -> dict[str, str]:
    """Return the environment of the rehearsal: it reads the models of the service, and shares nothing else with it."""
    return {
        **os.environ,
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": database_url,
        # There is none: nothing of this needs Redis.
        "REDIS_URL": f"unix://{data_dir}/none",
        "S3_BUCKET": "",
        "MODELS_DIR": str(settings.MODELS_DIR),
        "MODELS_OFFLINE": "on",
        "SECURITY_LOG": "",
        "BACKUP_TO": "",
        "BACKUP_PASSPHRASE": passphrase,
    }
