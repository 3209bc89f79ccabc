"""The names of stored files that rows have, in whatever column of whatever model."""

from collections.abc import Iterable, Iterator, Sequence

from django.apps import apps
from django.db import connection, models

_AT_ONCE = 500


def name_queries() -> Iterator[str]:
    """Yield SQL queries that together answer all names, as (name,) rows; some names come more than once."""
    quoted = connection.ops.quote_name
    for model, field in _columns():
        column, table = quoted(str(field.column)), quoted(model._meta.db_table)
        yield f"SELECT {column} FROM {table} WHERE {column} <> ''"  # noqa: S608  names of our own columns


def all_names() -> set[str]:
    """Return all names that rows have now. Raises Django's database errors."""
    names: set[str] = set()
    with connection.cursor() as cursor:
        for query in name_queries():
            cursor.execute(query)
            names.update(name for (name,) in cursor)
    return names


def still_named(names: Iterable[str]) -> set[str]:
    """Return those of the names that rows have now. Raises Django's database errors."""
    asked = list(names)
    found: set[str] = set()
    for start in range(0, len(asked), _AT_ONCE):
        page = asked[start : start + _AT_ONCE]
        for model, field in _columns():
            rows = model._base_manager.filter(**{f"{field.name}__in": page})
            found.update(map(str, rows.values_list(field.name, flat=True)))
    return found


def _columns() -> Sequence[tuple[type[models.Model], models.FileField]]:
    """Return the columns that the database has. Before migrations are run it may lack those of this version."""
    with connection.cursor() as cursor:
        introspection = connection.introspection
        tables = set(introspection.table_names(cursor))
        return [
            (model, field)
            for model in apps.get_models()
            if model._meta.db_table in tables and (fields := _file_fields(model))
            for names in [{str(row.name) for row in introspection.get_table_description(cursor, model._meta.db_table)}]
            for field in fields
            if field.column in names
        ]


def _file_fields(model: type[models.Model]) -> Sequence[models.FileField]:
    return [field for field in model._meta.local_concrete_fields if isinstance(field, models.FileField)]
