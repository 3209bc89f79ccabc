"""`manage.py doctor`: say in sentences what is wrong with the service, and what to do."""

import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks
from dreamsite.doctor import machine, outside, parts
from dreamsite.doctor.findings import Check, Finding

_INDENT = " " * 21


class Command(BaseCommand):
    help = "Look at everything that the service needs, and say what is wrong and what to do."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url", default=settings.SITE_URL, help="The address of the site for browsers (default: SITE_URL)."
        )

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        looks: dict[str, Check] = {
            "port": machine.port,
            "disk": machine.disks,
            "memory": machine.memory,
            "torch": machine.torch,
            "database": parts.database,
            "redis": parts.redis,
            "storage": parts.storage,
            "workers": parts.workers,
            "backups": parts.backups,
            "proxy": partial(outside.proxy, url.rstrip("/")),
            "mail": outside.mail,
            "hub": outside.hub,
        }
        wrong = 0
        for part, look in looks.items():
            for finding in _findings(part, look):
                wrong += finding.is_wrong
                self._write(finding)
        if wrong:
            raise CommandError(f"{wrong} {'things are' if wrong > 1 else 'thing is'} wrong; see above what to do.")
        self.stdout.write("Nothing is wrong.")

    def _write(self, finding: Finding) -> None:
        mark = self.style.ERROR("wrong") if finding.is_wrong else self.style.SUCCESS("good ")
        lines = textwrap.wrap(finding.text, 100, break_long_words=False, break_on_hyphens=False)
        lines += textwrap.wrap(
            finding.advice, 100, initial_indent="-> ", break_long_words=False, break_on_hyphens=False
        )
        self.stdout.write(f"{mark}  {finding.part:<12}  " + f"\n{_INDENT}".join(lines))
        self.stdout.flush()


def _findings(part: str, look: Check) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails itself is a finding, too, and does not hide the others."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001  what cannot be looked at may be what is wrong
        yield Finding(part, f"It cannot be looked at: {type(error).__name__}: {error}", "Report this as a bug.")
