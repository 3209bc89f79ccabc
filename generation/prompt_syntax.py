"""Prompt syntax of other programs, which the models here read as plain text. Only what is hardly ever meant as text counts."""

import re

_MAX_SHOWN = 50

# AUTOMATIC1111's `<lora:name:0.8>`, which ComfyUI's loaders and others have taken over.
_LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]+>", re.IGNORECASE)

# AUTOMATIC1111's, ComfyUI's and InvokeAI's weights and alternatives: `(word:1.3)`, `((word))`, `[first:second:0.5]`, `[a|b]`;
# and the `{a|b}` of dynamic prompts. Without a decimal point it may be a time, a verse or a ratio, such as `(16:9)`.
_SYNTAX = re.compile(
    r"\([^()]*[^()\s]\s*:\s*\d?\.\d+\s*\)"
    r"|\(\(\w(?:[^()]*\w)?\)\)"
    r"|\[[^\[\]]*:\s*\d?\.\d+\s*\]"
    r"|\[\w[^\[\]|]*(?:\|[^\[\]|]*)+\]"
    r"|\{\w[^{}|]*(?:\|[^{}|]*)+\}"
)


def warnings(field: str, text: str) -> list[str]:
    """Return warnings about syntax of other programs in the text of this field: one for each kind."""
    found = []
    if match := _LORA.search(text):
        found.append(f'{_shown(match)} in {field} has no effect; name LoRAs in loras, such as {{"owner/name": 0.8}}.')
    if match := _SYNTAX.search(text):
        found.append(f"{_shown(match)} in {field} is syntax of other programs, and plain text here.")
    return found


def _shown(match: re.Match[str]) -> str:
    return match[0] if len(match[0]) <= _MAX_SHOWN else f"{match[0][:_MAX_SHOWN]}…"
