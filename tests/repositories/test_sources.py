"""What staff may enter to name a model or LoRA."""

from pathlib import Path

import pytest

from generation.repositories.sources import InvalidSource, Source, parse_source

HUB = "https://huggingface.co"
MODELS = Path("/models")
SDXL = "stabilityai/sdxl-turbo"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (f" {SDXL} ", Source(SDXL)),
        (f"{HUB}/{SDXL}", Source(SDXL)),
        (f"huggingface.co/{SDXL}", Source(SDXL)),
        (f"hf.co/{SDXL}/tree/fp16", Source(SDXL, "fp16")),
        (f"https://www.huggingface.co/{SDXL}", Source(SDXL)),
        (f"{HUB}/{SDXL}/tree/fp16", Source(SDXL, "fp16")),
        (f"{HUB}/{SDXL}/tree/refs%2Fpr%2F5/unet", Source(SDXL, "refs/pr/5")),
        (f"{HUB}/{SDXL}/blob/main/sd_xl.safetensors", Source(SDXL, "main", "sd_xl.safetensors")),
        (f"{HUB}/{SDXL}/resolve/main/q/x-Q4.gguf?download=true", Source(SDXL, "main", "q/x-Q4.gguf")),
        ("/models/own/model/", Source("own/model")),
        ("/models/own/model/x.safetensors", Source("own/model", "", "x.safetensors")),
        ("own/model/x.gguf", Source("own/model", "", "x.gguf")),
    ],
)
def test_names_links_directories_and_files_are_understood(text: str, source: Source) -> None:
    assert parse_source(text, MODELS) == source


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sdxl", "Enter owner/name"),
        ("../etc/passwd", "Enter owner/name"),
        ("own/..", "Enter owner/name"),
        ("", "Enter owner/name"),
        (f"{HUB}/models", "Enter owner/name"),
        ("/etc/passwd", "move it to /models/owner/name"),
        ("/models/../etc/passwd.safetensors", "Enter owner/name"),
        ("https://civitai.com/models/1", "Only links to huggingface.co"),
        ("http://[::1", "This is no valid link: Invalid IPv6 URL. Enter owner/name"),
        (f"{HUB}/datasets/a/b", "a link to a data set"),
        ("own/model/x.ckpt", "Only .safetensors and .gguf files"),
        ("own/model/../x.safetensors", "The name of the file"),
    ],
)
def test_everything_else_is_refused_with_what_to_enter(text: str, says: str) -> None:
    with pytest.raises(InvalidSource, match=says):
        parse_source(text, MODELS)
