"""The schema of the database, compared with the migrations of this code."""

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def pending_migrations() -> list[str]:
    """Return the migrations of this code that the database lacks, as `app.name`. Raises Django's database errors.

    Those of newer code count as nothing: old processes go on while others are upgraded.
    """
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
