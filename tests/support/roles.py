"""Staff by their roles, whose groups a migration makes; tests that flush the database find them gone, and make them again."""

from importlib import import_module

from django.apps import apps
from django.contrib.auth.models import Group
from django.db import connection

from accounts.models import User

REVIEWERS, OPERATORS = "Reviewers", "Operators"


def staff(name: str, *groups: str) -> User:
    """A staff member of these groups."""
    if not Group.objects.exists():
        import_module("generation.migrations.0004_roles").create(apps, connection.schema_editor)
    person = User.objects.create_user(name, password=f"{name}-password", is_staff=True)
    person.groups.set(Group.objects.filter(name__in=groups))
    return person
