"""The queues of users, and indexes by which claims find the next row however many wait."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_no_runs"),
        ("generation", "0004_roles"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="UserQueue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("pool", models.CharField(max_length=50)),
                ("priority", models.SmallIntegerField(choices=[(0, "Low"), (1, "Normal"), (2, "High")])),
                (
                    "decayed_usage",
                    models.FloatField(help_text="The usage of its user's share, repeated for the index."),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.RemoveIndex(
            model_name="generation",
            name="waiting",
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("state", "queued")), fields=["user", "pool", "priority", "id"], name="waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("attempt__gt", 0), ("state", "queued")), fields=["pool", "id"], name="returned"
            ),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("state", "queued"), models.Q(("batch_key", ""), _negated=True)),
                fields=["pool", "batch_key", "user"],
                name="batches",
            ),
        ),
        migrations.AddField(
            model_name="userqueue",
            name="share",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="queues",
                to="generation.usershare",
            ),
        ),
        migrations.AddIndex(
            model_name="userqueue",
            index=models.Index(fields=["pool", "-priority", "decayed_usage", "id"], name="next_user"),
        ),
        migrations.AddConstraint(
            model_name="userqueue",
            constraint=models.UniqueConstraint(fields=("share", "pool", "priority"), name="unique_queue_of_user"),
        ),
    ]
