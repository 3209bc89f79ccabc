"""What of a prompt the model does not read."""

from typing import Any

_QUOTED = 200


def truncation_warnings(pipe: Any, field: str, text: str) -> list[str]:
    """A warning that quotes the end of `text` which no text encoder of the pipeline reads, if there is such an end."""
    tokenizers = [part for name, part in pipe.components.items() if name.startswith("tokenizer") and part is not None]
    read = max((_length_read(tokenizer, text) for tokenizer in tokenizers), default=len(text))
    rest = text[read:].strip()
    if not rest:
        return []
    if len(rest) > _QUOTED:
        rest = rest[:_QUOTED] + "…"
    return [f"{field} is longer than the model reads; this part had no effect: {rest}"]


def _length_read(tokenizer: Any, text: str) -> int:
    """Characters of `text` whose tokens fit between the special ones."""
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = tokens["offset_mapping"]
    return spans[room][0] if len(spans) > room else len(text)
