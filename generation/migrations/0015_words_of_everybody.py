from importlib import import_module

from django.db import migrations


def fill(apps, schema_editor):
    """The index of words anew, of all rows: in it staff find everybody's, too. See `generation.search`."""
    from generation import search

    first = import_module("generation.migrations.0006_words")
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    first.drop(apps, schema_editor)
    first.make(apps, schema_editor)
    if is_postgresql:
        # Made once all is in it, it takes a fraction of the time.
        schema_editor.execute("DROP INDEX generation_words_found")
    rows = apps.get_model("generation", "Generation").objects.order_by("pk")
    texts = ("user_id", "title", "prompt", "parameters", "recipe", "note")
    search.keep_new(rows.only("pk", *texts).iterator(chunk_size=1000))
    if is_postgresql:
        schema_editor.execute("CREATE INDEX generation_words_found ON generation_words USING gin (generation_words)")
        # Else it takes what is rare, such as a seed, for frequent, and reads through the table.
        schema_editor.execute("ALTER TABLE generation_words ALTER generation_words SET STATISTICS 1000")
        schema_editor.execute("ANALYZE generation_words")


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0014_usage"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
