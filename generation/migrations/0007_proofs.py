"""Proofs: generations that make others again, and what they found."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_no_runs"),
        ("generation", "0006_receipts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="generation",
            name="comparison",
            field=models.JSONField(blank=True, help_text="What a proof has found.", null=True),
        ),
        migrations.AddField(
            model_name="generation",
            name="proves",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="The generation that it makes again, to compare.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="proofs",
                to="generation.generation",
            ),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(condition=models.Q(("proves__isnull", False)), fields=["proves", "-id"], name="proofs"),
        ),
    ]
