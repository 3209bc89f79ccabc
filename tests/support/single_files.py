"""Models as one file, in the layouts of their makers, which other user interfaces save and load.

Names of tensors are those of the released files of Stable Diffusion 1.5 and 3.5.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_AUTOENCODER = {
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0": "mid.attn_1",
    r"down_blocks\.(\d)\.resnets": r"down.\1.block",
    r"down_blocks\.(\d)\.downsamplers\.0": r"down.\1.downsample",
    r"group_norm": "norm",
    r"to_q": "q",
    r"to_k": "k",
    r"to_v": "v",
    r"to_out\.0": "proj_out",
}
_SD3 = {
    "context_embedder": "context_embedder",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}
_SD3_BLOCK = {
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_SD3_JOINED = {
    "attn.to_q": ("attn.to_k", "attn.to_v", "x_block.attn.qkv"),
    "attn.add_q_proj": ("attn.add_k_proj", "attn.add_v_proj", "context_block.attn.qkv"),
    "attn2.to_q": ("attn2.to_k", "attn2.to_v", "x_block.attn2.qkv"),
}


def save_checkpoint(directory: Path, file: Path, layers_per_block: int = 1) -> None:
    """Save a Stable Diffusion 1 model of a directory in diffusers format as one file of all its parts."""
    unet = load_file(directory / "unet/diffusion_pytorch_model.safetensors")
    vae = load_file(directory / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(directory / "text_encoder/model.safetensors")
    tensors = {
        **{f"model.diffusion_model.{_unet_name(name, layers_per_block)}": value for name, value in unet.items()},
        **{f"first_stage_model.{_autoencoder_name(name, vae)}": value for name, value in vae.items()},
        **{f"cond_stage_model.transformer.{_clip_name(name)}": value for name, value in text.items()},
    }
    file.parent.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)


def sd3_tensors(transformer: Any) -> Tensors:
    """Return the weights of a transformer of Stable Diffusion 3 as its files name them."""
    weights: Tensors = transformer.state_dict()
    last = transformer.config.num_layers - 1
    tensors: Tensors = {"pos_embed": weights.pop("pos_embed.pos_embed")}
    for name, value in weights.items():
        part, _, kind = name.rpartition(".")
        if block := re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", part):
            number, part = int(block[1]), block[2]
            if part in _SD3_JOINED:
                *others, joined = _SD3_JOINED[part]
                values = [value, *(weights[f"transformer_blocks.{number}.{other}.{kind}"] for other in others)]
                tensors[f"joint_blocks.{number}.{joined}.{kind}"] = torch.cat(values)
            elif part in _SD3_BLOCK:
                swapped = _swapped(value) if part == "norm1_context.linear" and number == last else value
                tensors[f"joint_blocks.{number}.{_SD3_BLOCK[part]}.{kind}"] = swapped
        else:
            tensors[f"{_SD3[part]}.{kind}"] = _swapped(value) if part == "norm_out.linear" else value
    return {f"model.diffusion_model.{name}": value.contiguous() for name, value in tensors.items()}


def _swapped(value: torch.Tensor) -> torch.Tensor:
    """Exchange scale and shift, which diffusers has in the other order."""
    return torch.cat(value.chunk(2)[::-1])


def _unet_name(name: str, layers: int) -> str:
    part, _, kind = name.rpartition(".")
    if part in _UNET_ENDS:
        return f"{_UNET_ENDS[part]}.{kind}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", part):
        module, number, rest = match.groups()
        place = 1 if module == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_RESNET.get(rest, rest)}.{kind}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", part)
    assert match, name
    side, block, module, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if module == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{kind}"
    if module == "upsamplers":
        # After resnet and attention, of which the innermost block of this UNet has both.
        return f"output_blocks.{block * (layers + 1) + layers}.2.conv.{kind}"
    number = 1 + block * (layers + 1) + layer if side == "down" else block * (layers + 1) + layer
    place = 1 if module == "attentions" else 0
    return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{place}.{_RESNET.get(rest, rest)}.{kind}"


def _autoencoder_name(name: str, weights: Mapping[str, torch.Tensor]) -> str:
    blocks = len({key.split(".")[2] for key in weights if key.startswith("decoder.up_blocks.")})
    for pattern, replacement in _AUTOENCODER.items():
        name = re.sub(pattern, replacement, name)
    # The decoder's blocks are counted from the picture.
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{blocks - 1 - int(match[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{blocks - 1 - int(match[1])}.upsample", name)


def _clip_name(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"
