"""Parts of Stable Diffusion's kind, of which tests assemble pipelines: real classes, tiny, never trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from generation.engine.pipelines import expected_warnings_ignored, silence_libraries
from generation.repositories.files import BUNDLED

# Only half typed, so taken untyped.
diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")

silence_libraries()

NO_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

TEXT_WIDTH = 32
"""The width of CLIP's embeddings."""


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Make weights within this context depend on the seed alone."""
    with torch.random.fork_rng(), expected_warnings_ignored():
        torch.manual_seed(seed)
        yield


def unet(**changes: Any) -> Any:
    """Return a UNet of Stable Diffusion 1's kind, with these changes to its configuration."""
    configuration = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "sample_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return diffusers.UNet2DConditionModel(**configuration | changes).eval()


def sdxl_unet(time_ids: int = 6, **changes: Any) -> Any:
    """Return a UNet of SDXL's kind. `time_ids` are the numbers about size and crop that it is given beside the prompt."""
    configuration = {
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": time_ids * 8 + TEXT_WIDTH,
        "cross_attention_dim": 2 * TEXT_WIDTH,
    }
    return unet(**configuration | changes)


def autoencoder(**changes: Any) -> Any:
    """Return an autoencoder of Stable Diffusion's kind, which shrinks 8 times, with these changes to its configuration."""
    configuration = {
        "block_out_channels": (4, 4, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 2,
        "force_upcast": False,
    }
    return diffusers.AutoencoderKL(**configuration | changes).eval()


def pndm() -> Any:
    """Return the scheduler of Stable Diffusion 1, as its repository configures it."""
    return diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1)


def clip(**changes: Any) -> Any:
    return transformers.CLIPTextModel(_clip_config(**changes)).eval()


def clip_with_projection() -> Any:
    return transformers.CLIPTextModelWithProjection(_clip_config()).eval()


def clip_tokenizer() -> Any:
    """Return the bundled model's tokenizer, which reads 32 tokens."""
    return transformers.CLIPTokenizer.from_pretrained(BUNDLED / "tiny-edit/tokenizer")


def _clip_config(**changes: Any) -> Any:
    configuration = {
        "vocab_size": len(clip_tokenizer()),
        "max_position_embeddings": 32,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": TEXT_WIDTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return transformers.CLIPTextConfig(**configuration | changes)
