"""Twins of families whose text encoder also reads the picture, through a processor.

These pipelines cannot be made without the package torchvision, so their directories are written part by part.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.families import FAMILY_TRAITS, Family
from tests.support.tiny_parts import autoencoder, clip, clip_tokenizer, diffusers, transformers
from tests.support.twin_encoders import QWEN_WIDTH, byte_tokenizer, qwen_tokenizer, qwen_vl
from tests.support.twin_networks import (
    amplify,
    flow_autoencoder,
    flow_scheduler,
    flux2_autoencoder,
    omnigen_transformer,
    qwen_image_autoencoder,
    qwen_image_transformer,
)

_MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
_TEXTS = "{% for part in message.content %}{{ part.text }}{% endfor %}"
_MISTRAL_CHAT_TEMPLATE = (
    "<s>{% for message in messages %}{% if message.role == 'system' %}[SYSTEM_PROMPT]" + _TEXTS + "[/SYSTEM_PROMPT]"
    "{% else %}[INST]" + _TEXTS + "[/INST]{% endif %}{% endfor %}"
)
_QWEN_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n" + _TEXTS + "<|im_end|>\n{% endfor %}"
)


_SHORTER = 4
"""How many times shorter the sides of pictures are within `scaled_to_less`, at least."""
_SCALING = {
    "qwenimage.pipeline_qwenimage_edit": 2 * _SHORTER,
    "qwenimage.pipeline_qwenimage_edit_plus": 2 * _SHORTER,
    "qwenimage21.pipeline_qwenimage21": _SHORTER,
    "longcat_image.pipeline_longcat_image_edit": _SHORTER,
}


@contextmanager
def scaled_to_less() -> Iterator[None]:
    """Let the pipelines that scale every picture to a megapixel scale it to less: a test on a CPU then takes seconds.

    Declarations of a fixed area are changed in the same way.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, times in _SCALING.items():
            module = import_module(f"diffusers.pipelines.{name}")
            patch.setattr(module, "calculate_dimensions", _for_less(module.calculate_dimensions, times))
        buckets = import_module("diffusers.pipelines.joyimage.image_processor").BUCKETS
        patch.setitem(buckets, 1024, [_shorter(size) for size in buckets[1024]])
        for family, traits in FAMILY_TRAITS.items():
            if traits.has_fixed_area:
                sizes = tuple(_shorter(size) for size in traits.sizes)
                min_side, area = traits.min_side // _SHORTER, traits.area // _SHORTER**2
                changes = {"min_side": min_side, "area": area, "sizes": sizes}
                patch.setitem(FAMILY_TRAITS, family, traits.model_copy(update=changes))
        sizes_of_kandinsky = list(FAMILY_TRAITS[Family.KANDINSKY_5_EDIT].sizes)
        resolutions = property(lambda _: sizes_of_kandinsky, lambda *_: None)
        patch.setattr(diffusers.Kandinsky5I2IPipeline, "resolutions", resolutions, raising=False)
        yield


def _for_less(calculate_dimensions: Callable[[int, float], Any], times: int) -> Callable[[int, float], Any]:
    return lambda area, ratio: calculate_dimensions(area // times**2, ratio)


def _shorter(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // _SHORTER, size[1] // _SHORTER


class Processor:
    """The files of a processor of this class, as repositories have them: those of a tokenizer and an image processor."""

    def __init__(self, class_name: str, tokenizer: Any, image_processor: Any) -> None:
        self.class_name = class_name
        self._parts = (tokenizer, image_processor)

    def save_pretrained(self, directory: Path) -> None:
        for part in self._parts:
            part.save_pretrained(directory)


def save_parts(directory: Path, class_name: str, parts: Mapping[str, Any]) -> None:
    """Write the repository of a pipeline of this class of diffusers."""
    index: dict[str, Any] = {"_class_name": class_name, "_diffusers_version": diffusers.__version__}
    for name, part in parts.items():
        part.save_pretrained(directory / name)
        if isinstance(part, Processor):
            index[name] = ["transformers", part.class_name]
        else:
            index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    (directory / "model_index.json").write_text(json.dumps(index, indent=2))


def qwen_image_edit(directory: Path) -> None:
    save_parts(directory, "QwenImageEditPipeline", _qwen_image_parts())


def qwen_image_edit_plus(directory: Path) -> None:
    save_parts(directory, "QwenImageEditPlusPipeline", _qwen_image_parts())


def qwen_image_21(directory: Path) -> None:
    parts = {
        "transformer": _qwen_image_21_transformer(),
        "vae": _qwen_image_21_autoencoder(),
        "scheduler": flow_scheduler(use_dynamic_shifting=True),
        "text_encoder": _qwen3_vl(),
        "processor": _qwen3_vl_processor(),
    }
    save_parts(directory, "QwenImage21Pipeline", parts)


def longcat_edit(directory: Path) -> None:
    parts = {
        "transformer": _longcat_transformer(),
        "vae": flow_autoencoder(force_upcast=True),
        "scheduler": flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        "text_encoder": qwen_vl(),
        "tokenizer": qwen_tokenizer(),
        "text_processor": _qwen_vl_processor("Qwen2VLProcessor"),
    }
    save_parts(directory, "LongCatImageEditPipeline", parts)


def joyimage_edit(directory: Path) -> None:
    parts = {
        "transformer": _joyimage_transformer(),
        "vae": _wan21_autoencoder(),
        "scheduler": flow_scheduler(shift=1.5),
        "text_encoder": _qwen3_vl(),
        "tokenizer": qwen_tokenizer(),
        "processor": _qwen3_vl_processor(),
    }
    save_parts(directory, "JoyImageEditPipeline", parts)


def kandinsky5_edit(directory: Path) -> None:
    """Its second tokenizer pads to 77 tokens, which its second text encoder must read."""
    parts = {
        "transformer": _kandinsky5_transformer(),
        "vae": flow_autoencoder(),
        "scheduler": flow_scheduler(),
        "text_encoder": qwen_vl(),
        "tokenizer": _qwen_vl_processor("Qwen2_5_VLProcessor"),
        "text_encoder_2": clip(max_position_embeddings=77),
        "tokenizer_2": clip_tokenizer(),
    }
    save_parts(directory, "Kandinsky5I2IPipeline", parts)


def omnigen(directory: Path) -> None:
    """One network reads prompt, reference and latents; there is no text encoder."""
    tokens = ("<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<img>", "</img>")
    parts = {
        "transformer": omnigen_transformer(),
        "vae": autoencoder(),
        "scheduler": flow_scheduler(invert_sigmas=True, num_train_timesteps=1),
        "tokenizer": byte_tokenizer(
            tokens, unk_token="<unk>", bos_token="<s>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
        ),
    }
    save_parts(directory, "OmniGenPipeline", parts)


def flux2_dev(directory: Path) -> None:
    tokenizer = byte_tokenizer(
        _MISTRAL_TOKENS,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=_MISTRAL_CHAT_TEMPLATE,
    )
    parts = {
        "transformer": _flux2_transformer(),
        "vae": flux2_autoencoder(),
        "scheduler": flow_scheduler(use_dynamic_shifting=True),
        "text_encoder": _mistral(),
        "tokenizer": Processor("PixtralProcessor", tokenizer, transformers.PixtralImageProcessorPil()),
    }
    save_parts(directory, "Flux2Pipeline", parts)


def _qwen_image_parts() -> dict[str, Any]:
    return {
        "transformer": qwen_image_transformer(),
        "vae": qwen_image_autoencoder(),
        "scheduler": flow_scheduler(
            use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        "text_encoder": qwen_vl(),
        "tokenizer": qwen_tokenizer(),
        "processor": _qwen_vl_processor("Qwen2VLProcessor"),
    }


def _qwen_vl_processor(class_name: str) -> Processor:
    return Processor(class_name, qwen_tokenizer(), transformers.Qwen2VLImageProcessorPil())


def _qwen3_vl_processor() -> Processor:
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = _QWEN_CHAT_TEMPLATE
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    return Processor("Qwen3VLProcessor", tokenizer, transformers.Qwen2VLImageProcessorPil(patch_size=16, size=size))


# Denoising networks and autoencoders


def _qwen_image_21_transformer() -> Any:
    network = diffusers.QwenImage21Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=QWEN_WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return amplify(network.eval(), 2)


def _qwen_image_21_autoencoder() -> Any:
    """Return an autoencoder that shrinks 16 times."""
    network = diffusers.AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=16,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
    )
    return amplify(network.eval(), 2)


def _wan21_autoencoder() -> Any:
    """Return Wan 2.1's autoencoder, which treats a picture as a film of one frame and shrinks it 8 times."""
    network = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return amplify(network.eval(), 2)


def _longcat_transformer() -> Any:
    network = diffusers.LongCatImageTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=QWEN_WIDTH,
        pooled_projection_dim=QWEN_WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return amplify(network.eval(), 2)


def _joyimage_transformer() -> Any:
    network = diffusers.JoyImageEditTransformer3DModel(
        in_channels=16,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=QWEN_WIDTH,
        num_layers=1,
        rope_dim_list=(4, 6, 6),
    )
    return amplify(network.eval(), 2)


def _kandinsky5_transformer() -> Any:
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        in_text_dim=QWEN_WIDTH,
        in_text_dim2=32,
        time_dim=16,
        out_visual_dim=16,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 2, 2),
        visual_cond=True,
    )
    for name, parameter in network.named_parameters():
        if "modulation.out_layer" in name:  # zeros, with which no block does anything
            torch.nn.init.normal_(parameter)
    return amplify(network.eval(), 2)


def _flux2_transformer() -> Any:
    """Return a transformer that reads three hidden states of the text encoder."""
    network = diffusers.Flux2Transformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * QWEN_WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return amplify(network.eval(), 1.5)


# Text encoders


def _qwen3_vl() -> Any:
    tokenizer = qwen_tokenizer()
    end_of_text, end_of_turn, vision_start, vision_end, image, video = tokenizer.convert_tokens_to_ids(
        ["<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": QWEN_WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default", "mrope_interleaved": True},
        "bos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "eos_token_id": end_of_turn,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": QWEN_WIDTH,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    configuration = transformers.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        vision_start_token_id=vision_start,
        vision_end_token_id=vision_end,
        image_token_id=image,
        video_token_id=video,
    )
    return transformers.Qwen3VLForConditionalGeneration(configuration).eval()


def _mistral() -> Any:
    """Return FLUX.2 dev's text encoder, of which the pipeline reads the hidden states 10, 20 and 30."""
    configuration = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": 256 + len(_MISTRAL_TOKENS),
            "hidden_size": QWEN_WIDTH,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_hidden_layers": 30,
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 6,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "image_size": 28,
            "patch_size": 14,
        },
        image_token_index=5,
    )
    return transformers.Mistral3ForConditionalGeneration(configuration).eval()
