from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("generation", "0007_asked_in_the_studio")]

    operations = [
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=Q(trashed__isnull=False, deleted=None),
                fields=["user", "-trashed", "-id"],
                name="trash_of_a_user",
            ),
        ),
    ]
