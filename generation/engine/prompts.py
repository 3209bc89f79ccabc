"""Detection of prompts that are longer than a model reads."""

from typing import Any

_MAX_QUOTE = 200


def readable(pipe: Any, text: str, limit: int | None = None) -> str:
    """Return the part of `text` that a text encoder reads. Some pipelines fail if they are given more.

    `limit` is the number of tokens that the pipeline reads, if that is less than its tokenizers tell.
    """
    tokenizers = [
        getattr(part, "tokenizer", part)  # of a processor
        for name, part in pipe.components.items()
        if name.startswith(("tokenizer", "processor")) and part is not None
    ]
    fast = [tokenizer for tokenizer in tokenizers if getattr(tokenizer, "is_fast", False)]
    return text[: max((_length_read(tokenizer, text, limit) for tokenizer in fast), default=len(text))]


def truncation_warnings(pipe: Any, field: str, text: str, limit: int | None = None) -> list[str]:
    """Return a warning that quotes the end of `text` which is not readable; an empty list if all is read."""
    rest = text[len(readable(pipe, text, limit)) :].strip()
    if not rest:
        return []
    if len(rest) > _MAX_QUOTE:
        rest = rest[:_MAX_QUOTE] + "…"
    return [f"{field} is longer than the model reads; this part had no effect: {rest}"]


def _length_read(tokenizer: Any, text: str, limit: int | None) -> int:
    """Return the number of characters of `text` whose tokens fit beside the special tokens."""
    length = min(tokenizer.model_max_length, limit or tokenizer.model_max_length)
    max_tokens = length - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = tokens["offset_mapping"]
    return spans[max_tokens][0] if len(spans) > max_tokens else len(text)
