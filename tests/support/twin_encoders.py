"""Text and picture encoders with their tokenizers, of which the twins are assembled: real classes, tiny, never trained."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tests.support.tiny_parts import TEXT_WIDTH, transformers

# Only half typed, so taken untyped.
tokenizers: Any = import_module("tokenizers")

QWEN_WIDTH = 16
"""The width of Qwen's embeddings."""

_QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
)
_QWEN_IDS = {token: id_ for id_, token in enumerate(_QWEN_TOKENS, start=256)}  # after the 256 bytes
_QWEN_TEXT = {
    "vocab_size": 256 + len(_QWEN_TOKENS),
    "hidden_size": QWEN_WIDTH,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": _QWEN_IDS["<|endoftext|>"],
    "pad_token_id": _QWEN_IDS["<|endoftext|>"],
    "eos_token_id": _QWEN_IDS["<|im_end|>"],
}
_QWEN_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def t5(width: int = TEXT_WIDTH) -> Any:
    configuration = transformers.T5Config(
        vocab_size=100,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        is_encoder_decoder=False,
    )
    return transformers.T5EncoderModel(configuration).eval()


def t5_tokenizer() -> Any:
    """Return a tokenizer of printable ASCII characters."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def qwen3_config(layers: int) -> Any:
    return transformers.Qwen3Config(**_QWEN_TEXT, num_hidden_layers=layers, head_dim=8, max_position_embeddings=4096)


def qwen_vl() -> Any:
    """Return Qwen-Image's text encoder, which could also read pictures."""
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": QWEN_WIDTH,
        "fullatt_block_indexes": [0],
    }
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    configuration = transformers.Qwen2_5_VLConfig(
        text_config={**_QWEN_TEXT, "num_hidden_layers": 2, "rope_scaling": rope},
        vision_config=vision,
        vision_start_token_id=_QWEN_IDS["<|vision_start|>"],
        vision_end_token_id=_QWEN_IDS["<|vision_end|>"],
        image_token_id=_QWEN_IDS["<|image_pad|>"],
        video_token_id=_QWEN_IDS["<|video_pad|>"],
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(configuration).eval()


def qwen_tokenizer() -> Any:
    """Return a tokenizer of bytes, with Qwen's special tokens after them and a template for chats."""
    vocabulary = {letter: id_ for id_, letter in enumerate(_byte_letters())}
    return transformers.Qwen2Tokenizer(
        vocab=vocabulary | _QWEN_IDS,
        merges=[],
        eos_token="<|im_end|>",
        extra_special_tokens=list(_QWEN_TOKENS),
        model_max_length=4096,
        chat_template=_QWEN_CHAT_TEMPLATE,
    )


def gemma() -> Any:
    """Return a text encoder with embeddings of width 8."""
    configuration = transformers.Gemma2Config(
        vocab_size=260,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        attn_implementation="eager",
    )
    return transformers.Gemma2Model(configuration).eval()


def smollm() -> Any:
    """Return a text encoder with embeddings of width 16."""
    configuration = transformers.SmolLM3Config(
        vocab_size=128001,  # the pipeline gives an empty prompt the token 128000
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.SmolLM3ForCausalLM(configuration).eval()


def byte_tokenizer(special_tokens: Sequence[str], **options: Any) -> Any:
    """Return a tokenizer of bytes, with these special tokens before them."""
    vocabulary = {token: id_ for id_, token in enumerate([*special_tokens, *_byte_letters()])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special_tokens))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=8192, **options)


def depth_estimator() -> Any:
    configuration = transformers.DPTConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=37,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    return transformers.DPTForDepthEstimation(configuration).eval()


def clip_vision() -> Any:
    configuration = transformers.CLIPVisionConfig(
        hidden_size=32,
        image_size=32,
        patch_size=16,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=TEXT_WIDTH,
    )
    return transformers.CLIPVisionModelWithProjection(configuration).eval()


def siglip() -> Any:
    """Return a picture encoder with embeddings of width 16."""
    configuration = transformers.Siglip2VisionConfig(
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_patches=256,
        patch_size=16,
    )
    return transformers.Siglip2VisionModel(configuration).eval()


def _byte_letters() -> list[str]:
    """Return the 256 characters that stand for bytes in the vocabularies of GPT-2 and its successors."""
    return sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
