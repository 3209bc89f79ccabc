"""Rows that nobody can change or delete, not even superusers, such as those of the audit log."""

from typing import Any, ClassVar, NoReturn

from django.db import migrations, models


class Unchangeable(TypeError):
    """Code tried to change or delete a row that is append-only."""

    def __init__(self, model: type[models.Model]) -> None:
        super().__init__(f"A {model._meta.verbose_name} cannot be changed or deleted; add another row instead.")


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **_: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def delete(self) -> NoReturn:
        raise Unchangeable(self.model)

    delete.queryset_only = True  # type: ignore[attr-defined]


class AppendOnly(models.Model):
    """A row that cannot be changed or deleted.

    The rows that it refers to can be deleted: Django then sets the foreign key to NULL without using the manager.
    """

    objects: ClassVar[Any] = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise Unchangeable(type(self))
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise Unchangeable(type(self))


def refuse_changes_of(table: str) -> migrations.RunPython:
    """Return the migration of triggers by which the database itself refuses to change or delete rows of this table.

    SQLite drops them with the table when a later migration of its columns makes the table anew: repeat this one then.
    """

    def create(apps: Any, schema_editor: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            statements = [_POSTGRESQL_FUNCTION, _POSTGRESQL_TRIGGER.format(table=table)]
        else:
            statements = [trigger.format(table=table) for trigger in _SQLITE_TRIGGERS]
        for statement in statements:
            schema_editor.execute(statement, params=None)

    return migrations.RunPython(create, migrations.RunPython.noop)


_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
"""
_POSTGRESQL_TRIGGER = (
    "CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
)
_SQLITE_TRIGGERS = (
    "CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    "CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
    # `INSERT OR REPLACE` deletes without the trigger of deletions.
    """CREATE TRIGGER {table}_replace BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END""",
)
