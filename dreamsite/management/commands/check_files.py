"""`manage.py check_files`: compare the stored files with the rows that name them."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks
from dreamsite.management.commands.backup import absolute, read_passphrase
from generation.maintenance import file_check
from generation.maintenance.backups.creation import file_list
from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.backups.manifest import Entry
from generation.maintenance.backups.place import Place

_NAMES_SHOWN = 20


class Command(BaseCommand):
    help = "Find rows without their files, files without a row, and files that are not as a backup has them."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--against", metavar="PLACE", help="Compare digests with the newest backup in this place.")
        parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="Of that place.")
        parser.add_argument(
            "--delete-orphans", action="store_true", help="Delete files without a row that are older than a day."
        )

    def handle(
        self, *args: Any, against: str | None, passphrase_file: Path | None, delete_orphans: bool, **options: Any
    ) -> None:
        try:
            found = file_check.check(self._digests(against, passphrase_file) if against else ())
        except BackupFailed as error:
            raise CommandError(str(error)) from None
        self._report("rows name files that are not there", found.missing)
        self._report("files are not as the backup has them", found.damaged)
        orphans = [file.name for file in found.orphans]
        if delete_orphans:
            deleted = file_check.delete_orphans(found.orphans)
            self._report("files without a row were deleted", deleted)
            orphans = [name for name in orphans if name not in set(deleted)]
        self._report("files have no row", orphans)
        compared = f", {found.compared} of them as the backup has them" if against and not found.damaged else ""
        summary = f"{found.named} files are named by rows{compared}"
        if found.missing or found.damaged or orphans:
            raise CommandError(f"{summary}; see above what is wrong.")
        self.stdout.write(f"{summary}; all are there, and no others.")

    def _digests(self, against: str, passphrase_file: Path | None) -> list[Entry]:
        place = Place(absolute(against), read_passphrase(passphrase_file))
        if not (names := place.names()):
            raise CommandError(f"There is no finished backup in {against}.")
        return list(file_list(place, names[-1]))

    def _report(self, what: str, names: Sequence[str]) -> None:
        if names:
            shown = [f"  {name}" for name in names[:_NAMES_SHOWN]]
            more = [f"  and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
            self.stdout.write("\n".join([f"{len(names)} {what}:", *shown, *more]))
