"""Staff with roles. A migration creates the groups; they are created again if an earlier test has flushed the database."""

from importlib import import_module

from django.apps import apps
from django.contrib.auth.models import Group
from django.db import connection

from accounts.models import User

REVIEWERS, OPERATORS = "Reviewers", "Operators"


def staff(name: str, *groups: str) -> User:
    """Create a staff member of these groups."""
    if not Group.objects.exists():
        import_module("generation.migrations.0004_roles").create(apps, connection.schema_editor)
    user = User.objects.create_user(name, password=f"{name}-password", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    return user
