"""The models, LoRAs and aliases of a fresh service: bundled ones are enabled, the hub's are disabled.

Those that Livepeer's gateway knows are pinned. The others have no commit; it is read from the hub when they are enabled.
Licences are named as on their cards.
"""

from typing import Any

from django.db import migrations

# (id, family, commit, licence)
LIVEPEER_MODELS = [
    ("timbrooks/instruct-pix2pix", "instruct-pix2pix", "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d", "mit"),
    ("stabilityai/sd-turbo", "turbo", "b261bac6fd2cf515557d5d0707481eafa0485ec2", "sai-nc-community"),
    ("stabilityai/sdxl-turbo", "sdxl-turbo", "71153311d3dbb46851df1931d3ca6e939de83304", "sai-nc-community"),
    ("ByteDance/SDXL-Lightning", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44", "openrail++"),
    ("ByteDance/SDXL-Lightning-2step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44", "openrail++"),
    ("ByteDance/SDXL-Lightning-4step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44", "openrail++"),
    ("ByteDance/SDXL-Lightning-8step", "lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44", "openrail++"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl", "462165984030d82259a11f4367a4eed129e94a7b", "openrail++"),
]

# (id, family, licence)
HUB_MODELS = [
    ("stabilityai/stable-diffusion-3.5-medium", "stable-diffusion-3", "stabilityai-ai-community"),
    ("stabilityai/stable-diffusion-3.5-large", "stable-diffusion-3", "stabilityai-ai-community"),
    ("stabilityai/stable-diffusion-3.5-large-turbo", "stable-diffusion-3", "stabilityai-ai-community"),
    ("black-forest-labs/FLUX.1-Kontext-dev", "flux-kontext", "flux-1-dev-non-commercial-license"),
    ("black-forest-labs/FLUX.1-dev", "flux", "flux-1-dev-non-commercial-license"),
    ("black-forest-labs/FLUX.1-Krea-dev", "flux", "flux-1-dev-non-commercial-license"),
    ("black-forest-labs/FLUX.1-schnell", "flux-schnell", "apache-2.0"),
    ("black-forest-labs/FLUX.2-dev", "flux2", "flux-non-commercial-license"),
    ("black-forest-labs/FLUX.2-klein-4B", "flux2-klein", "apache-2.0"),
    ("black-forest-labs/FLUX.2-klein-9B", "flux2-klein", "flux-non-commercial-license"),
    ("Qwen/Qwen-Image", "qwen-image", "apache-2.0"),
    ("Qwen/Qwen-Image-Edit", "qwen-image-edit", "apache-2.0"),
    ("Qwen/Qwen-Image-Edit-2509", "qwen-image-edit-plus", "apache-2.0"),
    ("Qwen/Qwen-Image-Edit-2511", "qwen-image-edit-plus", "apache-2.0"),
    ("Tongyi-MAI/Z-Image", "z-image", "apache-2.0"),
    ("Tongyi-MAI/Z-Image-Turbo", "z-image-turbo", "apache-2.0"),
    ("lodestones/Chroma1-HD", "chroma", "apache-2.0"),
    ("meituan-longcat/LongCat-Image-Edit", "longcat-edit", "apache-2.0"),
]

# One line for those who choose a model in the studio.
SUMMARIES = {
    "dreamsite/tiny-edit": "Edits photos in 40 ways, by instruction.",
    "dreamsite/tiny-redraw": "Draws one of 203 things over a picture: a tiger, a balloon, a house.",
    "timbrooks/instruct-pix2pix": "Edits photos by instruction.",
    "stabilityai/sd-turbo": "Redraws pictures of 512 px in two steps.",
    "stabilityai/sdxl-turbo": "Redraws pictures of 512 px in two steps, with more detail.",
    "ByteDance/SDXL-Lightning": "Redraws pictures of 1024 px in a few steps.",
    "ByteDance/SDXL-Lightning-2step": "Redraws pictures of 1024 px in two steps.",
    "ByteDance/SDXL-Lightning-4step": "Redraws pictures of 1024 px in four steps.",
    "ByteDance/SDXL-Lightning-8step": "Redraws pictures of 1024 px in eight steps, with more detail.",
    "stabilityai/stable-diffusion-xl-base-1.0": "Redraws pictures of 1024 px; many LoRAs are made for it.",
    "stabilityai/stable-diffusion-3.5-medium": "Redraws pictures; a good balance of quality and memory.",
    "stabilityai/stable-diffusion-3.5-large": "Redraws pictures in high quality.",
    "stabilityai/stable-diffusion-3.5-large-turbo": "Redraws pictures in high quality and four steps.",
    "black-forest-labs/FLUX.1-Kontext-dev": "Edits pictures by instruction and keeps what is not named.",
    "black-forest-labs/FLUX.1-dev": "Redraws pictures in high quality.",
    "black-forest-labs/FLUX.1-Krea-dev": "Redraws pictures so that they look like photos.",
    "black-forest-labs/FLUX.1-schnell": "Redraws pictures in four steps.",
    "black-forest-labs/FLUX.2-dev": "Edits pictures by instruction in the highest quality; large and slow.",
    "black-forest-labs/FLUX.2-klein-4B": "Edits pictures by instruction in four steps.",
    "black-forest-labs/FLUX.2-klein-9B": "Edits pictures by instruction in four steps, in higher quality.",
    "Qwen/Qwen-Image": "Redraws pictures; writes text in them well.",
    "Qwen/Qwen-Image-Edit": "Edits pictures by instruction, and the text in them.",
    "Qwen/Qwen-Image-Edit-2509": "Edits pictures by instruction; keeps faces and products better.",
    "Qwen/Qwen-Image-Edit-2511": "Edits pictures by instruction; the newest of its kind here.",
    "Tongyi-MAI/Z-Image": "Redraws pictures like photos, also with Chinese text.",
    "Tongyi-MAI/Z-Image-Turbo": "Redraws pictures like photos, in a few steps.",
    "lodestones/Chroma1-HD": "Redraws pictures in many styles.",
    "meituan-longcat/LongCat-Image-Edit": "Edits pictures by instruction, in English or Chinese.",
}

# What the bundled models can do: the studio offers these prompts.
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

# OpenAI's image models, which its clients name or send if nothing is chosen. They stand for the default model.
ALIASES = [
    "chatgpt-image-latest",
    "dall-e-2",
    "dall-e-3",
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "gpt-image-2-2026-04-21",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-flare-2026-09-08",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-sunburst-2026-09-08",
    "gpt-image-2.6-flare",
    "gpt-image-2.6-sunburst",
]


def create(apps: Any, schema_editor: Any) -> None:
    models = apps.get_model("generation", "DiffusionModel").objects
    tiny_edit = models.create(
        id="dreamsite/tiny-edit",
        family="instruct-pix2pix",
        enabled=True,
        is_default=True,
        example_prompts=EXAMPLES["dreamsite/tiny-edit"].strip(),
    )
    models.create(
        id="dreamsite/tiny-redraw",
        family="stable-diffusion",
        enabled=True,
        example_prompts=EXAMPLES["dreamsite/tiny-redraw"].strip(),
        prompt_label="What should be drawn?",
        placeholder="a red apple",
    )
    for model_id, family, commit, licence in LIVEPEER_MODELS:
        models.create(id=model_id, family=family, revision=commit, licence=licence)
    for model_id, family, licence in HUB_MODELS:
        models.create(id=model_id, family=family, licence=licence)
    for model_id, summary in SUMMARIES.items():
        models.filter(id=model_id).update(summary=summary)
    for lora_id in ("dreamsite/banknote", "dreamsite/knitted"):
        apps.get_model("generation", "Lora").objects.create(id=lora_id, enabled=True).base_models.set([tiny_edit])
    for name in ALIASES:
        apps.get_model("generation", "ModelAlias").objects.create(name=name)


class Migration(migrations.Migration):
    dependencies = [("generation", "0002_search_index")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
