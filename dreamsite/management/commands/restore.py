"""`manage.py restore`: restore a backup into an empty installation."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks
from dreamsite.management.commands.backup import absolute, add_place, read_passphrase
from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.backups.place import Place
from generation.maintenance.backups.restoration import restore

_NAMES_SHOWN = 10


class Command(BaseCommand):
    help = "Restore a backup into the empty DATA_DIR, database and storage of the settings."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_place(parser)
        parser.add_argument("--name", default="", help="The backup, such as 20261130T201500Z (default: the newest).")
        parser.add_argument("--without-files", action="store_true", help="Restore only database and secret keys.")

    def handle(
        self, *args: Any, place: str, passphrase_file: Path | None, name: str, without_files: bool, **options: Any
    ) -> None:
        try:
            opened = Place(absolute(place), read_passphrase(passphrase_file))
            restored = restore(opened, name, with_files=not without_files)
        except BackupFailed as error:
            raise CommandError(str(error)) from None
        manifest = restored.manifest
        self.stdout.write(
            f"restored {restored.name} of version {manifest.version}: database, {len(restored.keys)} secret keys, "
            f"{restored.files} files"
        )
        if not restored.keys:
            names = "SECRET_KEY, URL_SECRET_KEY, WATERMARK_KEY"
            self.stdout.write(f"It has no secret keys, since they are in the environment: {names}.")
        if restored.missing:
            self.stdout.write(
                f"{len(restored.missing)} files were missing or deleted when it was made; "
                "manage.py check_files names the rows without files."
            )
        self.stdout.write("Next: manage.py migrate, then start the service. `serve` migrates by itself.")
        if restored.lost:
            names = ", ".join(restored.lost[:_NAMES_SHOWN])
            raise CommandError(
                f"{len(restored.lost)} files are missing or damaged in {place}, all else is restored: {names}"
                f"{' …' if len(restored.lost) > _NAMES_SHOWN else ''}. An earlier backup may have them."
            )
