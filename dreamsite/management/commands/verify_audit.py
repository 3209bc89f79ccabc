"""`manage.py verify_audit`: check that the audit log is as it was written."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import audit


class Command(BaseCommand):
    help = "Check that no entry of the audit log was changed, added or removed, and print the digest of the last one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--expect",
            metavar="DIGEST",
            default="",
            help="A digest that an earlier check printed or the security log has; fails if no entry has it.",
        )

    def handle(self, *args: Any, expect: str, **options: Any) -> None:
        try:
            last = audit.verify(expect)
        except audit.BrokenChain as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"intact up to entry {last.pk}: {last.digest}" if last else "the audit log is empty")
