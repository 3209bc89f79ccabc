"""Autoencoders, denoising networks and their scheduler, of which the twins are assembled: real classes, tiny, never trained.

With torch's initial weights, neither the prompt nor a picture beside the noise would show in the results of some of
these networks. Their weights are multiplied, so that tests can see whether prompt and picture count.
"""

from typing import Any

import torch

from tests.support.tiny_parts import TEXT_WIDTH, autoencoder, diffusers
from tests.support.twin_encoders import QWEN_WIDTH


def amplify(network: Any, factor: float) -> Any:
    """Multiply the weights of the linear and convolutional layers of this network by `factor`, and return it."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter *= factor
    return network


# Autoencoders


def flow_autoencoder(**changes: Any) -> Any:
    """Return an autoencoder with 16 channels, as FLUX.1 and the models after it have."""
    configuration = {
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.1159,
        "scaling_factor": 0.3611,
    }
    return autoencoder(**configuration | changes)


def flux2_autoencoder() -> Any:
    """Return FLUX.2's autoencoder: 32 channels, which the pipeline packs into 128 and normalizes."""
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()


def movq() -> Any:
    """Return Kandinsky's autoencoder, which shrinks 8 times."""
    return diffusers.VQModel(
        block_out_channels=(32,) * 4,  # its spatial normalization always has 32 groups
        down_block_types=(*("DownEncoderBlock2D",) * 3, "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3),
        latent_channels=4,
        norm_num_groups=4,
        norm_type="spatial",
        num_vq_embeddings=16,
        vq_embed_dim=4,
    ).eval()


def deep_compression_autoencoder() -> Any:
    """Return Sana's autoencoder, which shrinks 32 times."""
    widths = (4, 4, 4, 4, 8, 8)
    blocks = (*("ResBlock",) * 5, "EfficientViTBlock")
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_qkv_multiscales=(*((),) * 5, (5,)),
        decoder_qkv_multiscales=(*((),) * 5, (5,)),
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    ).eval()


def qwen_image_autoencoder() -> Any:
    """Return Qwen-Image's autoencoder, which treats a picture as a film of one frame and shrinks it 8 times."""
    network = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
    )
    return amplify(network.eval(), 2)


def wan_autoencoder() -> Any:
    """Return Wan 2.2's autoencoder, which treats a picture as a film of one frame and shrinks it 16 times."""
    network = diffusers.AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    return amplify(network.eval(), 2)


# Denoising networks


def kandinsky22_unet() -> Any:
    """Return a UNet that reads the embedding of a picture, and predicts noise and variance."""
    return diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        addition_embed_type="image",
        encoder_hid_dim=TEXT_WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=32,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    ).eval()


def kandinsky22_prior() -> Any:
    """Return the network that makes the embedding of a picture from the embedding of a prompt."""
    network = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=TEXT_WIDTH, num_embeddings=32
    )
    network.clip_std = torch.nn.Parameter(torch.ones_like(network.clip_std))  # zeros would make all prompts the same
    return network.eval()


def kandinsky3_unet() -> Any:
    return diffusers.Kandinsky3UNet(
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(32, 64),
        cross_attention_dim=4,
        encoder_hid_dim=TEXT_WIDTH,
    ).eval()


def sd3_transformer() -> Any:
    network = diffusers.SD3Transformer2DModel(
        sample_size=32,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * TEXT_WIDTH,
        qk_norm="rms_norm",
    )
    return amplify(network.eval(), 2)


def flux_transformer(guidance_embeds: bool, in_channels: int) -> Any:
    network = diffusers.FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    return amplify(network.eval(), 2)


def flux2_klein_transformer() -> Any:
    """Return a transformer that reads three hidden states of the text encoder."""
    network = diffusers.Flux2Transformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * QWEN_WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return amplify(network.eval(), 1.2)


def chroma_transformer() -> Any:
    return diffusers.ChromaTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    ).eval()


def qwen_image_transformer() -> Any:
    network = diffusers.QwenImageTransformer2DModel(
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=QWEN_WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    return amplify(network.eval(), 3)


def z_image_transformer(**changes: Any) -> Any:
    return diffusers.ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=QWEN_WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1536, 128, 128],
        **changes,
    ).eval()


def sana_transformer(**changes: Any) -> Any:
    return diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        **changes,
    ).eval()


def omnigen_transformer() -> Any:
    network = diffusers.OmniGenTransformer2DModel(
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=32,
        num_layers=1,
        time_step_dim=4,
        vocab_size=265,
        pad_token_id=6,
        rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]},
    )
    return amplify(network.eval(), 2)


def fibo_transformer() -> Any:
    """Return a transformer that reads the last two hidden states of the text encoder."""
    network = diffusers.BriaFiboTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * 16,
        text_encoder_dim=16,
        axes_dims_rope=(0, 4, 4),
    )
    return amplify(network.eval(), 3)


def flow_scheduler(**changes: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**changes)
