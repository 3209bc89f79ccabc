from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0017_line_samples"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="generation", name="by_error"),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(fields=["state", "-id"], condition=Q(is_flagged=True), name="flagged_by_state"),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(fields=["error_code", "-id", "state"], condition=~Q(error_code=""), name="by_error"),
        ),
    ]
