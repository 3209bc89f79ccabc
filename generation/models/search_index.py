"""The full text search index."""

from typing import Any

from django.db import models

from generation.models.generations import Generation


class Match(models.Lookup[Any]):
    """A lookup that matches an index entry against a query in the syntax of the database."""

    lookup_name = "match"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = self.process_rhs(compiler, connection)
        operator = "%s @@ %s::tsquery" if connection.vendor == "postgresql" else "%s MATCH %s"
        return operator % (left, right), [*left_values, *right_values]


class EntryField(models.TextField[str, str]):
    """The column of the full text index; a plain text field for migrations."""

    def deconstruct(self) -> Any:
        name, _, arguments, options = super().deconstruct()
        return name, "django.db.models.TextField", arguments, options


EntryField.register_lookup(Match)


class SearchEntry(models.Model):
    """A generation's entry in the full text search index, written by `generation.library.search`.

    A migration creates the table. SQLite: an FTS5 table; its hidden column with the name of the table is the index.
    PostgreSQL: a table with a tsvector.
    """

    generation = models.OneToOneField(
        Generation, models.DO_NOTHING, primary_key=True, related_name="search_entry", db_constraint=False
    )
    rowid = models.BigIntegerField(db_column="rowid", help_text="SQLite only: increases with time, as ids do.")
    entry = EntryField(db_column="generation_words")

    class Meta:
        managed = False
        db_table = "generation_words"
