"""Requests that are answered with kept pictures: how they are found, and from which they are."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_no_runs"),
        ("generation", "0008_watermarks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="generation",
            name="result_key",
            field=models.CharField(
                blank=True,
                help_text="Equal for requests of the same pictures. Empty: not known before a picture was fetched.",
                max_length=32,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="reused_from",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="The generation whose pictures were answered again, without a run.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="generation.generation",
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="run_warnings",
            field=models.PositiveSmallIntegerField(
                blank=True, help_text="How many of the warnings, the last ones, came from the run.", null=True
            ),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("result_key__isnull", False), ("state", "succeeded")),
                fields=["user", "result_key", "-id"],
                name="results",
            ),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("reused_from__isnull", False)), fields=["reused_from"], name="reused"
            ),
        ),
    ]
