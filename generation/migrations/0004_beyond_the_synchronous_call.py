import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_limits"),
        ("generation", "0003_turns_limits_and_stopping"),
    ]

    operations = [
        migrations.AddField(
            model_name="generation",
            name="deleted",
            field=models.DateTimeField(
                blank=True, help_text="When its pictures and words were removed. The row stays.", null=True
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="request_id",
            field=models.CharField(blank=True, help_text="The `X-Request-Id` that it came with.", max_length=64),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input",
            field=models.FileField(blank=True, max_length=200, upload_to=""),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input_format",
            field=models.CharField(blank=True, max_length=10),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input_height",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input_sha256",
            field=models.CharField(blank=True, help_text="Of the uploaded bytes.", max_length=64),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input_thumbnail",
            field=models.FileField(blank=True, max_length=200, upload_to=""),
        ),
        migrations.AlterField(
            model_name="generation",
            name="input_width",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=255)),
                (
                    "fingerprint",
                    models.CharField(help_text="SHA-256 of the request as it was understood.", max_length=64),
                ),
                ("created", models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                (
                    "answer",
                    models.TextField(blank=True, help_text="The body that was answered, for whoever asks again."),
                ),
                (
                    "generation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="idempotency_keys",
                        to="generation.generation",
                    ),
                ),
                (
                    "token",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.apitoken",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("token", "key"), name="one_use_of_a_key")],
            },
        ),
    ]
