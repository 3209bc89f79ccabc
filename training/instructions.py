"""The grammar of instructions: wordings for edits, and neutral wordings, which name no edit.

An instruction is a style in a sentence ("turn it into {a pencil sketch}"), an imperative ("sketch it") or a state of the photo
("could you show it {at night}"); the words are in instructions.toml. Neutral wordings use the same sentences ("turn it into
{a dog}", "could you {add a hat}"), so that the sentences alone have no meaning. `HELD_OUT` has wordings that `instruction`
never returns: evaluation uses wordings that the model has not been trained on.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np

_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

# The plain request for each edit.
PROMPTS: dict[str, str] = {name: f"turn it into {words['styles'][0]}" for name, words in _WORDS["edits"].items()}

HELD_OUT: dict[str, list[str]] = {name: words["held_out"] for name, words in _WORDS["edits"].items()}
NEUTRAL_HELD_OUT: list[str] = _WORDS["neutral_held_out"]

# The first letter of a word of five letters or more, and the others: the first is seldom wrong.
_LONG_WORD = re.compile(r"\b([a-z])([a-z]{4,})\b")


def instruction(edit: str, random: np.random.Generator) -> str:
    """Return a random instruction for an edit. Raises KeyError."""
    words = _WORDS["edits"][edit]
    chance = random.random()
    if chance < 0.3:
        template, key, value = _pick(_WORDS["askings"], random), "i", _pick(words["imperatives"], random)
    elif chance < 0.55:
        template, key, value = _pick(_WORDS["complements"], random), "p", _pick(words["phrases"], random)
    else:
        template, key, value = _pick(_WORDS["sentences"], random), "n", _pick(words["styles"], random)
    slots = {**_forms(value), key: value, "s": _pick(_WORDS["subjects"], random)}
    sentence = template.format(**slots)
    return _vary(sentence, random)


def neutral_instruction(random: np.random.Generator) -> str:
    """Return a random neutral wording: the photo should not change."""
    chance = random.random()
    if chance < 0.35:
        sentence = _pick(_WORDS["neutral"], random)
    elif chance < 0.7:
        sentence = _pick(_WORDS["askings"], random).replace("{i}", _pick(_WORDS["wishes"], random))
    elif chance < 0.85:
        sentence = _pick(_WORDS["sentences"], random).format(**_forms("a {w}"), n="a {w}", s="{s}")
    else:
        sentence = _pick(_WORDS["complements"], random).replace("{p}", _pick(_WORDS["circumstances"], random))
    while "{" in sentence:
        sentence = sentence.replace("{s}", _pick(_WORDS["subjects"], random), 1)
        sentence = sentence.replace("{w}", _pick(_WORDS["things"], random), 1)
    return _vary(re.sub(r"\ba (?=[aeio]|u(?!ni))", "an ", sentence), random)


def words_of_edits() -> list[str]:
    """Return all words in instructions for edits, also misspelt ones."""
    kinds = ("sentences", "askings", "complements", "subjects", "endings")
    misspelt = [word for words in _WORDS["misspellings"].values() for word in words]
    texts = [text for kind in kinds for text in _WORDS[kind]] + ["please", *misspelt]
    for words in _WORDS["edits"].values():
        styles = [form for style in words["styles"] for form in (style, *_forms(style).values())]
        texts += [*styles, *words["imperatives"], *words["phrases"]]
    return texts


def can_be_said(sentence: str) -> bool:
    """Return whether the grammar contains a sentence, for any edit or none, misspellings aside."""
    said = _without_n(sentence.lower())
    kinds = ("sentences", "askings", "complements", "neutral")
    return any(
        # Exact patterns are large, so most templates are excluded before.
        _loose_pattern(template).fullmatch(said) and _exact_pattern(template).fullmatch(said)
        for kind in kinds
        for template in _WORDS[kind]
    )


@cache
def _loose_pattern(template: str) -> re.Pattern[str]:
    return _pattern(re.sub(r"\\{.\\}", ".+", re.escape(_without_n(template))), ".*")


@cache
def _exact_pattern(template: str) -> re.Pattern[str]:
    edits = _WORDS["edits"].values()
    styles = [style for words in edits for style in words["styles"]]
    slots = {
        "n": [*styles, "a {w}"],
        "a": [*(_forms(style)["a"] for style in styles), "a {w}"],
        "b": [*(_forms(style)["b"] for style in styles), "{w}"],
        "i": [imperative for words in edits for imperative in words["imperatives"]] + _WORDS["wishes"],
        "p": [phrase for words in edits for phrase in words["phrases"]] + _WORDS["circumstances"],
        "s": _WORDS["subjects"],
        "w": _WORDS["things"],
    }
    escaped = re.escape(_without_n(template))
    for key, values in slots.items():
        slot = re.escape(f"{{{key}}}")
        escaped = escaped.replace(slot, f"(?:{'|'.join(re.escape(_without_n(value)) for value in values)})")
    return _pattern(escaped, "|".join(map(re.escape, _WORDS["endings"])))


def _pattern(sentence: str, ending: str) -> re.Pattern[str]:
    return re.compile(f"(?:please )?{sentence}(?:{ending})")


def _without_n(text: str) -> str:
    return re.sub(r"\ban ", "a ", text)


def misspelt(sentence: str, random: np.random.Generator) -> str:
    """Return the sentence with one common misspelling, or a typing error in a long word."""
    known = [word for word in re.findall(r"\w+", sentence) if word in _WORDS["misspellings"]]
    if known and random.random() < 0.6:
        word = _pick(known, random)
        return re.sub(rf"\b{word}\b", _pick(_WORDS["misspellings"][word], random), sentence)
    long = list(_LONG_WORD.finditer(sentence))
    if not long:
        return sentence
    match = long[random.integers(len(long))]
    at = match.start() + int(random.integers(1, len(match[0]) - 1))
    one, other = sentence[at], sentence[at + 1]
    return sentence[:at] + _pick([one, one + one + other, other + one], random) + sentence[at + 2 :]


def _forms(style: str) -> dict[str, str]:
    """Return the forms of a style: without its article, and with the indefinite one."""
    bare = re.sub(r"^(an?|the) ", "", style)
    return {"b": bare, "a": f"{'an' if bare[0] in 'aeiou8' else 'a'} {bare}"}


def _vary(sentence: str, random: np.random.Generator) -> str:
    if random.random() < 0.08:
        sentence = "please " + sentence
    if random.random() < 0.1:
        sentence = misspelt(sentence, random)
    sentence += _pick(_WORDS["endings"], random)
    chance = random.random()
    return sentence if chance < 0.7 else sentence.capitalize() if chance < 0.95 else sentence.upper()


def _pick(choices: list[str], random: np.random.Generator) -> str:
    return choices[random.integers(len(choices))]
