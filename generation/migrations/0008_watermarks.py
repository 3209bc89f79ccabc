"""Watermarks: whether results of a model get one, and what that of a picture says."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0007_proofs"),
    ]

    operations = [
        migrations.AddField(
            model_name="diffusionmodel",
            name="watermark",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Whether its pictures carry the watermark. Off: they are as the model makes them, bit for bit.",
            ),
        ),
        migrations.AddField(
            model_name="generatedimage",
            name="watermark",
            field=models.BigIntegerField(
                blank=True,
                db_index=True,
                help_text="What its watermark says of the picture. Empty: it has none.",
                null=True,
            ),
        ),
    ]
