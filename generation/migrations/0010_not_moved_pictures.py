"""An index of the pictures whose files are still to be moved, which the reaper asks for in every round."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0009_reused_results"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="generatedimage",
            index=models.Index(
                condition=models.Q(
                    models.Q(("file", ""), _negated=True),
                    models.Q(
                        models.Q(("quarantined", None), ("review", "confirmed")),
                        models.Q(
                            models.Q(("review", "confirmed"), _negated=True),
                            models.Q(("review", ""), _negated=True),
                            models.Q(("original", ""), _negated=True),
                        ),
                        _connector="OR",
                    ),
                ),
                fields=["id"],
                name="not_moved",
            ),
        ),
    ]
