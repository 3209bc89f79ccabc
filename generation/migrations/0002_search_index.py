"""The full text search index. `generation.library.search` writes it; Django's model of it is unmanaged."""

import sqlite3
from typing import Any

from django.db import migrations


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE TABLE generation_words (generation_id uuid PRIMARY KEY, generation_words tsvector NOT NULL)"
        )
        schema_editor.execute("CREATE INDEX generation_words_found ON generation_words USING gin (generation_words)")
        # With fewer, the planner takes rare words such as seeds for frequent ones, and reads the whole table.
        schema_editor.execute("ALTER TABLE generation_words ALTER generation_words SET STATISTICS 1000")
    else:
        # Words are folded and cut before they are stored. Nothing is ranked, so column sizes are not needed.
        schema_editor.execute(
            "CREATE VIRTUAL TABLE generation_words USING fts5(words, generation_id UNINDEXED, columnsize=0,"
            " tokenize=\"unicode61 remove_diacritics 0 tokenchars '@'\")"
        )
        if sqlite3.sqlite_version_info >= (3, 42):
            schema_editor.execute("INSERT INTO generation_words (generation_words, rank) VALUES ('secure-delete', 1)")


def drop(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP TABLE generation_words")


class Migration(migrations.Migration):
    dependencies = [("generation", "0001_initial")]
    operations = [migrations.RunPython(create, drop)]
