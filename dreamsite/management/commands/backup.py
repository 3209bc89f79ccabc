"""`manage.py backup`: make a backup while the service runs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat

from dreamsite import checks
from generation.maintenance.backups import jobs
from generation.maintenance.backups.errors import BackupFailed


class Command(BaseCommand):
    help = "Make a backup of database, files and secret keys while the service runs."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_place(parser)
        parser.add_argument(
            "--keep",
            type=int,
            default=settings.BACKUP_KEEP,
            help="Backups to keep (default: BACKUP_KEEP). 0 keeps all.",
        )

    def handle(self, *args: Any, place: str, passphrase_file: Path | None, keep: int, **options: Any) -> None:
        if keep < 0:
            raise CommandError("--keep must be 0 or more.")
        try:
            made = jobs.run(jobs.claim(absolute(place)), read_passphrase(passphrase_file), keep, lambda: False)
        except BackupFailed as error:
            raise CommandError(str(error)) from None
        manifest = made.manifest
        self.stdout.write(
            f"{place}/{made.name}: database, {len(manifest.parts) - 2} secret keys and {manifest.files} files, "
            f"{made.copied} of them new; {filesizeformat(made.written)} written, "
            f"{'encrypted' if manifest.encrypted else 'not encrypted'}"
        )
        if manifest.storage == "bucket":
            self.stdout.write(
                "The files are in the bucket and were only listed: keep a copy or versions of the bucket."
            )
        if made.problem:
            raise CommandError(made.problem)


def add_place(parser: ArgumentParser) -> None:
    """Add the arguments that name a place of backups, and the passphrase."""
    parser.add_argument(
        "place", nargs="?", default=settings.BACKUP_TO, help="A directory or s3://bucket/prefix (default: BACKUP_TO)."
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="A file with the passphrase (default: BACKUP_PASSPHRASE)."
    )


def absolute(place: str) -> str:
    """Return the place as the settings name it. Raises `CommandError` without one."""
    if not place:
        raise CommandError("Name a directory or s3://bucket/prefix, or set BACKUP_TO.")
    return place.rstrip("/") if place.startswith("s3://") else str(Path(place).expanduser().resolve())


def read_passphrase(path: Path | None) -> str:
    """Return the first line of the file, or else the setting. Raises `CommandError`."""
    if path is None:
        return str(settings.BACKUP_PASSPHRASE)
    try:
        return path.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None
