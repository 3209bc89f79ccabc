"""Whether the downloads of a user tell their recipe."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_no_runs"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="tells_recipe",
            field=models.BooleanField(
                "downloads tell their recipe",
                db_default=False,
                default=False,
                help_text="Prompt and settings, in their credentials.",
            ),
        ),
    ]
