"""The grammar of instructions: what people write when they want an edit, and what names no edit at all.

An instruction is a style in a sentence ("turn it into {a pencil sketch}") or an imperative ("sketch it"); the words are in
instructions.toml. `HELD_OUT` lists wordings that `instruction` never gives: evaluation asks for edits in words that the
model has not been trained on.
"""

import re
import tomllib
from pathlib import Path

import numpy as np

_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

# The plain request for each edit.
PROMPTS: dict[str, str] = {name: f"turn it into {words['styles'][0]}" for name, words in _WORDS["edits"].items()}

HELD_OUT: dict[str, list[str]] = {name: words["held_out"] for name, words in _WORDS["edits"].items()}
NEUTRAL_HELD_OUT: list[str] = _WORDS["neutral_held_out"]

_FORBIDDEN = {sentence for sentences in HELD_OUT.values() for sentence in sentences} | set(NEUTRAL_HELD_OUT)


def instruction(edit: str, random: np.random.Generator) -> str:
    """A random instruction for an edit, never one of HELD_OUT. Raises KeyError."""
    words = _WORDS["edits"][edit]
    if random.random() < 0.3:
        sentence = _pick(words["imperatives"], random)
    else:
        style = _pick(words["styles"], random)
        bare = re.sub(r"^(an?|the) ", "", style)
        sentence = _pick(_WORDS["sentences"], random).format(n=style, b=bare, s=_pick(_WORDS["subjects"], random))
    if random.random() < 0.08:
        sentence = "please " + sentence
    if sentence in _FORBIDDEN:
        return instruction(edit, random)
    return _vary(sentence, random)


def neutral_instruction(random: np.random.Generator) -> str:
    """Words that name no edit, never of NEUTRAL_HELD_OUT: the photo is to stay as it is."""
    sentence = _pick(_WORDS["neutral"], random)
    while "{" in sentence:
        sentence = sentence.replace("{s}", _pick(_WORDS["subjects"], random), 1)
        sentence = sentence.replace("{w}", _pick(_WORDS["things"], random), 1)
    if sentence in _FORBIDDEN:
        return neutral_instruction(random)
    return _vary(sentence, random)


def _vary(sentence: str, random: np.random.Generator) -> str:
    sentence += _pick(_WORDS["endings"], random)
    chance = random.random()
    return sentence if chance < 0.7 else sentence.capitalize() if chance < 0.95 else sentence.upper()


def _pick(choices: list[str], random: np.random.Generator) -> str:
    return choices[random.integers(len(choices))]
