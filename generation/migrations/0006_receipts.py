"""What generations are made with: environments, which many share, and the calls of each."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0005_user_queues"),
    ]

    operations = [
        migrations.CreateModel(
            name="Environment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(help_text="SHA-256 of the values.", max_length=64, unique=True)),
                ("values", models.JSONField()),
                ("created", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="generation",
            name="calls",
            field=models.JSONField(
                blank=True,
                help_text="For each picture: how many were made in one call with it, and which of them it was, from 0.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="environment",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="What made it.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="generation.environment",
            ),
        ),
    ]
