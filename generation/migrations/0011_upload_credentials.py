"""What the content credentials of uploads claim."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("generation", "0010_not_moved_pictures")]

    operations = [
        migrations.AddField(
            model_name=model,
            name=name,
            field=models.JSONField(
                blank=True, help_text="What the content credentials of the upload claim, if it has some.", null=True
            ),
        )
        for model, name in (("generation", "input_credentials"), ("referencepicture", "credentials"))
    ]
