import django.db.models.deletion
from django.db import migrations, models

import generation.models


def make(apps, schema_editor):
    """The index of words; see `generation.search`."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE TABLE generation_words (generation_id uuid PRIMARY KEY, generation_words tsvector NOT NULL)"
        )
        schema_editor.execute("CREATE INDEX generation_words_found ON generation_words USING gin (generation_words)")
    else:
        # Folded and cut before they come here. No ranking, so no sizes of columns.
        schema_editor.execute(
            "CREATE VIRTUAL TABLE generation_words USING fts5(words, generation_id UNINDEXED, columnsize=0,"
            " tokenize=\"unicode61 remove_diacritics 0 tokenchars '@'\")"
        )


def drop(apps, schema_editor):
    schema_editor.execute("DROP TABLE generation_words")


def fill(apps, schema_editor):
    """The words of the rows from before it."""
    from generation import search

    rows = apps.get_model("generation", "Generation").objects.filter(deleted=None).order_by("pk")
    for row in rows.only("pk", "user_id", "title", "prompt", "parameters", "recipe", "note").iterator(chunk_size=1000):
        search.keep(row)


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0005_pages_people_come_back_to"),
    ]

    operations = [
        migrations.CreateModel(
            name="Words",
            fields=[
                (
                    "generation",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="words",
                        serialize=False,
                        to="generation.generation",
                    ),
                ),
                (
                    "place",
                    models.BigIntegerField(db_column="rowid", help_text="Of SQLite alone: grows with time, as ids do."),
                ),
                ("entry", generation.models.EntryField(db_column="generation_words")),
            ],
            options={
                "db_table": "generation_words",
                "managed": False,
            },
        ),
        migrations.RunPython(make, drop),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
