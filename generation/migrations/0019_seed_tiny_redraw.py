"""The second bundled model, enabled from the start: it draws emoji over a picture."""

from typing import Any

from django.db import migrations


def seed(apps: Any, schema_editor: Any) -> None:
    apps.get_model("generation", "DiffusionModel").objects.get_or_create(
        id="dreamsite/tiny-redraw", defaults={"family": "image-to-image", "enabled": True}
    )


class Migration(migrations.Migration):
    dependencies = [("generation", "0018_flagged_by_state")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
