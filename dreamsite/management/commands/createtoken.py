"""`manage.py createtoken`: create an API token."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, transaction
from django.utils import timezone

from accounts import mail
from accounts.models import ApiToken, OutgoingMail, User
from dreamsite import checks


class Command(BaseCommand):
    help = "Create an API token for a user and print only the token. It is not shown again."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", required=True, help="A name for the token, such as the program that uses it.")
        parser.add_argument("--days", type=int, help="Days until it expires (default: never).")
        parser.add_argument("--create", action="store_true", help="Create the user if there is none.")

    def handle(self, *args: Any, username: str, name: str, days: int | None, create: bool, **options: Any) -> None:
        if days is not None and not 1 <= days <= 36_500:
            raise CommandError("--days must be from 1 to 36500.")
        try:
            user = User.objects.filter(username=username).first()
        except (OperationalError, ProgrammingError):
            raise CommandError(
                "There is no database yet; start `manage.py serve` or run `manage.py migrate`."
            ) from None
        if user is None and not create:
            raise CommandError(f"There is no user {username!r}; add --create to create one.")
        try:
            ApiToken(name=name).clean_fields(exclude=["user", "prefix", "digest"])
            if user is None:
                user = User(username=username)
                user.set_unusable_password()
                user.full_clean()
                user.save()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        if not user.is_active:
            raise CommandError(f"The user {username!r} is not active; its tokens would be refused.")
        expires = timezone.now() + timedelta(days=days) if days is not None else None
        with transaction.atomic():
            token, raw = ApiToken.objects.issue(user, name, expires)
            mail.notify(OutgoingMail.Kind.TOKEN, user, name=token.name, prefix=token.prefix)
        self.stdout.write(raw)
