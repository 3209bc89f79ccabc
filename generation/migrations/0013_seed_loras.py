"""The bundled LoRAs, allowed with the bundled model from the start."""

from typing import Any

from django.db import migrations


def seed(apps: Any, schema_editor: Any) -> None:
    loras = apps.get_model("generation", "Lora")
    base = apps.get_model("generation", "DiffusionModel").objects.filter(id="dreamsite/tiny-edit")
    for name in ("dreamsite/banknote", "dreamsite/knitted"):
        loras.objects.create(id=name, enabled=True).base_models.set(base)


class Migration(migrations.Migration):
    dependencies = [("generation", "0012_groups_and_retention")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
