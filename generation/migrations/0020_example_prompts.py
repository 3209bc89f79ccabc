"""What the bundled models can do, in prompts that their wordings are known by."""

from typing import Any

from django.db import migrations, models

EXAMPLES = {
    "dreamsite/tiny-edit": """
turn it into a pencil sketch
draw it with charcoal
turn it into an ink drawing
paint it in oil
paint it like van gogh
turn it into a watercolor
make it a cartoon
turn it into pixel art
turn it into a mosaic
turn it into a stained glass window
print it as a comic
make it a pop art poster
add neon lights
turn it into a blueprint
carve it in stone
make it of gold
make it of silver
make it black and white
make it film noir
make it sepia
make it a vintage photo
make it night
add a sunset
make it a snowy winter day
make it rain
make it foggy
put it under water
make it autumn
turn it into a negative
show it through a thermal camera
make it brighter
make it darker
make it colder
make the colors vivid
blur it
make it dreamy
tint it red
tint it green
tint it blue
tint it purple
""",
    "dreamsite/tiny-redraw": """
a red apple
a lemon
a watermelon
a sunflower
a cactus
a rocket
a balloon
a house
a cat
a tiger
an owl
a penguin
a whale
a rabbit
a ghost
a frog
a slice of pizza
a birthday cake
a heart
a crown
""",
}


def fill(apps: Any, schema_editor: Any) -> None:
    for name, prompts in EXAMPLES.items():
        apps.get_model("generation", "DiffusionModel").objects.filter(pk=name).update(example_prompts=prompts.strip())


class Migration(migrations.Migration):
    dependencies = [("generation", "0019_seed_tiny_redraw")]
    operations = [
        migrations.AddField(
            model_name="diffusionmodel",
            name="example_prompts",
            field=models.TextField(
                blank=True,
                default="",
                help_text="What it can do, a prompt on each line. The studio offers them as ideas, and GET /models tells them.",
                max_length=10000,
            ),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
