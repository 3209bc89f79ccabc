"""The models known from the start: the bundled one is the default, the hub's are pinned, and disabled."""

from typing import Any

from django.db import migrations

# (id, family, commit)
HUB_MODELS = [
    ("timbrooks/instruct-pix2pix", "instruct-pix2pix", "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d"),
    ("stabilityai/sd-turbo", "turbo", "b261bac6fd2cf515557d5d0707481eafa0485ec2"),
    ("stabilityai/sdxl-turbo", "turbo", "71153311d3dbb46851df1931d3ca6e939de83304"),
    ("ByteDance/SDXL-Lightning", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    ("ByteDance/SDXL-Lightning-2step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    ("ByteDance/SDXL-Lightning-4step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    ("ByteDance/SDXL-Lightning-8step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "image-to-image", "462165984030d82259a11f4367a4eed129e94a7b"),
]


def seed(apps: Any, schema_editor: Any) -> None:
    model = apps.get_model("generation", "DiffusionModel")
    model.objects.create(id="dreamsite/tiny-edit", family="instruct-pix2pix", enabled=True, is_default=True)
    for model_id, family, commit in HUB_MODELS:
        model.objects.create(id=model_id, family=family, revision=commit)


class Migration(migrations.Migration):
    dependencies = [("generation", "0001_initial")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
