"""Canaries: runs of a fixed request of each model, and what they made."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0011_upload_credentials"),
    ]

    operations = [
        migrations.CreateModel(
            name="Canary",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created", models.DateTimeField(default=django.utils.timezone.now)),
                ("finished", models.DateTimeField(blank=True, null=True)),
                ("lease_expires", models.DateTimeField(blank=True, null=True)),
                (
                    "attempt",
                    models.PositiveIntegerField(
                        default=0, help_text="Incremented by every claim. Updates of an earlier attempt have no effect."
                    ),
                ),
                ("worker", models.CharField(blank=True, max_length=100)),
                ("recipe", models.JSONField(default=dict)),
                ("file", models.FileField(blank=True, max_length=200, upload_to="")),
                ("width", models.PositiveIntegerField(default=0)),
                ("height", models.PositiveIntegerField(default=0)),
                ("problem", models.TextField(blank=True, help_text="Why it failed.")),
                (
                    "largest_difference",
                    models.PositiveSmallIntegerField(
                        help_text="Of a colour of a pixel to that of `before`, 0 to 255. Empty: they were not comparable.",
                        null=True,
                    ),
                ),
                (
                    "psnr",
                    models.FloatField(
                        help_text="In decibels. Empty: the pixels are the same, or not comparable.", null=True
                    ),
                ),
                ("accepted", models.DateTimeField(null=True)),
                (
                    "accepted_by",
                    models.CharField(blank=True, help_text="A username. Empty: nobody had to decide.", max_length=150),
                ),
                (
                    "before",
                    models.ForeignKey(
                        help_text="The accepted one that it was compared with.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="generation.canary",
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        db_index=False,
                        help_text="What made it; if it failed, as much of it as was known.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="generation.environment",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="generation.diffusionmodel",
                    ),
                ),
            ],
            options={
                "ordering": ("-finished", "-pk"),
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("finished", None)),
                        fields=("model",),
                        name="one_unfinished_canary_of_a_model",
                    )
                ],
            },
        ),
    ]
