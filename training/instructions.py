"""The grammar of instructions: wordings for edits, and neutral wordings, which name no edit, in several languages.

An instruction is a style in a sentence ("turn it into {a pencil sketch}"), an imperative ("sketch it"), a state of the photo
("could you show it {at night}"), a whole sentence ("the moon should be out"), or two of these; the words are in wordings/, one
file for each language. Neutral wordings use the same sentences ("turn it into {a dog}", "could you {add a hat}"), so that the
sentences alone have no meaning. Others are captions of photos, or words from anywhere. `HELD_OUT` has wordings that
`instruction` never returns: evaluation uses wordings that the model has not been trained on.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from training import unknown_words

LANGUAGES = ("en", "de", "es", "fr", "ja", "zh")

_WORDS: dict[str, dict[str, Any]] = {
    language: tomllib.loads((Path(__file__).parent / "wordings" / f"{language}.toml").read_text(encoding="utf-8"))
    for language in LANGUAGES
}
_EDITS: dict[str, Any] = _WORDS["en"]["edits"]
_ENGLISH_SHARE = 0.25  # of all wordings; the other languages have equal shares of the rest

# The plain request for each edit.
PROMPTS: dict[str, str] = {name: f"turn it into {words['styles'][0]}" for name, words in _EDITS.items()}

# By language, then by edit.
HELD_OUT: dict[str, dict[str, list[str]]] = {
    language: {name: words["edits"][name]["held_out"] for name in _EDITS} for language, words in _WORDS.items()
}
NEUTRAL_HELD_OUT: dict[str, list[str]] = {language: words["neutral_held_out"] for language, words in _WORDS.items()}
# Those that the card is measured by: each is run on many photos.
NEUTRAL_OF_CARD: list[str] = NEUTRAL_HELD_OUT["en"][:20]
DEVELOPMENT: dict[str, dict[str, str]] = {language: words["development"] for language, words in _WORDS.items()}
NEUTRAL_DEVELOPMENT: dict[str, list[str]] = {
    language: words["neutral_development"] for language, words in _WORDS.items()
}

# The first letter of a word of five letters or more, and the others: the first is seldom wrong.
_LONG_WORD = re.compile(r"\b([a-z])([a-z]{4,})\b")
_SLOTS = {"s": "subjects", "w": "things", "d": "doings", "l": "places", "y": "names"}
_WORD = re.compile(r"[^\W\d_]+")
# Words of scripts without spaces: short runs of Chinese characters, or katakana. Hiragana are mostly endings.
_UNSPACED_WORD = re.compile(r"(?<![\u4e00-\u9fff々])[\u4e00-\u9fff々]{1,4}(?![\u4e00-\u9fff々])|[\u30a1-\u30faー]{2,}")
# Words in the wordings of more edits than this, such as "make" or "photo", name none.
_MAX_EDITS = 5
_SHORTEST = 3
_PARTICLES = {"and", "the", "with", "without", "for", "from", "that"}


def instruction(edit: str, random: np.random.Generator, language: str | None = None) -> str:
    """Return a random instruction for an edit, in a random language by default. Raises KeyError."""
    chosen = _WORDS[language or _random_language(random)]
    words = chosen["edits"][edit]
    chance = random.random()
    if chance < 0.12:
        return _vary(_pick(words["sayings"], random), chosen, random)
    if chance < 0.24:
        two = [_pick(words[_pick(["imperatives", "phrases", "sayings"], random)], random) for _ in range(2)]
        return _vary(_pick(chosen["joins"], random).join(two), chosen, random)
    if chance < 0.42:
        template, key, value = _pick(chosen["askings"], random), "i", _pick(words["imperatives"], random)
    elif chance < 0.64:
        template, key, value = _pick(chosen["complements"], random), "p", _pick(words["phrases"], random)
    else:
        template, key, value = _pick(chosen["sentences"], random), "n", _pick(words["styles"], random)
    slots = {**_forms(value, chosen["articles"]), key: value, "s": _pick(chosen["subjects"], random)}
    return _vary(template.format(**slots), chosen, random)


def neutral_instruction(random: np.random.Generator, language: str | None = None) -> str:
    """Return a random neutral wording, in a random language by default: the photo should not change."""
    name = language or _random_language(random)
    words = _WORDS[name]
    thing = "a {w}" if name == "en" else "{w}"
    chance = random.random()
    if chance < 0.35:
        sentence = _pick(words["neutral"], random)
    elif chance < 0.6:
        sentence = _pick(words["askings"], random).replace("{i}", _pick(words["wishes"], random))
    elif chance < 0.7:
        sentence = _pick(words["sentences"], random).format(**_forms(thing, words["articles"]), n=thing, s="{s}")
    elif chance < 0.8:
        sentence = _pick(words["complements"], random).replace("{p}", _pick(words["circumstances"], random))
    else:
        return _vary(unrelated_words(name, random), words, random)
    while slot := re.search(r"\{(.)\}", sentence):
        sentence = sentence.replace(slot[0], _pick(words[_SLOTS[slot[1]]], random), 1)
    if name == "en":
        sentence = re.sub(r"\ba (?=[aeio]|u(?!ni))", "an ", sentence)
    return _vary(sentence, words, random)


def unrelated_words(language: str, random: np.random.Generator) -> str:
    """Return some words that name no edit: a sentence of another program, random characters or frequent passwords."""
    sentences, characters, words = _unknown(language)
    if sentences and random.random() < 0.4:
        return _pick(sentences, random)
    if characters and random.random() < 0.7:
        return "".join(_pick(characters, random) for _ in range(random.integers(1, 9)))
    return " ".join(_pick(words, random) for _ in range(random.integers(1, 5)))


@cache
def _unknown(language: str) -> tuple[list[str], list[str], list[str]]:
    """Return sentences, characters and words of `unknown_words` that name no edit."""
    names, used = naming_words(), set("".join(words_of_edits()))
    known = {word for text in words_of_edits() for word in _WORD.findall(text.lower())}
    return (
        [
            text
            for text in unknown_words.sentences(language)
            if names.isdisjoint(_WORD.findall(text)) and not any(is_unspaced(name) and name in text for name in names)
        ],
        [character for character in unknown_words.characters(language) if character not in used],
        [word for word in unknown_words.passwords() if word not in known and word.removesuffix("s") not in known],
    )


def words_of_edits() -> list[str]:
    """Return all words in instructions for edits in any language, also misspelt ones."""
    kinds = ("sentences", "askings", "complements", "subjects", "endings", "openings")
    texts = [word for words in _WORDS["en"]["misspellings"].values() for word in words]
    for language in _WORDS.values():
        texts += [text for kind in kinds for text in language[kind]]
        for words in language["edits"].values():
            styles = [
                form for style in words["styles"] for form in (style, *_forms(style, language["articles"]).values())
            ]
            texts += _spelt([*styles, *words["imperatives"], *words["phrases"], *words["sayings"]], language)
    return texts


@cache
def naming_words() -> frozenset[str]:
    """Return the words that name an edit in any language, and how the English ones are misspelt."""
    names: set[str] = set()
    for language in _WORDS.values():
        edits = [
            {
                word
                for kind in ("styles", "imperatives", "phrases")
                for word in _split(wordings[kind])
                # A single Chinese character in an imperative is mostly part of a verb.
                if len(word) > 1 or kind == "styles"
            }
            for wordings in language["edits"].values()
        ]
        counts = Counter(word for edit in edits for word in edit)
        kinds = ["neutral", *_SLOTS.values(), "circumstances", "sentences", "complements"]
        general = {word for kind in kinds for word in _split(language[kind])}
        names.update(
            _spelt((word for word, count in counts.items() if count <= _MAX_EDITS and word not in general), language)
        )
    names |= set(_split(name.replace("_", " ") for name in _EDITS))
    misspellings = _WORDS["en"]["misspellings"]
    names |= {word for name in names for word in _split(misspellings.get(name, []))}
    return frozenset(name for name in names if is_unspaced(name) or (len(name) >= _SHORTEST and name not in _PARTICLES))


def is_unspaced(text: str) -> bool:
    """Return whether a word belongs to a script that is written without spaces."""
    return _UNSPACED_WORD.match(text) is not None


def can_be_said(sentence: str) -> bool:
    """Return whether the grammar contains a sentence in any language, for any edit or none, misspellings aside."""
    said = _without_n(sentence.lower())
    kinds = ("sentences", "askings", "complements", "neutral")
    return any(
        # Exact patterns are large, so most templates are excluded before.
        _loose_pattern(template).fullmatch(said) and _exact_pattern(template, language).fullmatch(said)
        for language, words in _WORDS.items()
        for kind in kinds
        for template in words[kind]
    )


@cache
def _loose_pattern(template: str) -> re.Pattern[str]:
    escaped = re.sub(r"\\{.\\}", ".+", re.escape(_without_n(template)))
    return re.compile(f".*{escaped}.*")


@cache
def _exact_pattern(template: str, language: str) -> re.Pattern[str]:
    words = _WORDS[language]
    edits, articles = words["edits"].values(), words["articles"]
    styles = [style for edit in edits for style in edit["styles"]]
    slots = {
        "n": [*styles, "a {w}", "{w}"],
        "a": [*(_forms(style, articles)["a"] for style in styles), "a {w}"],
        "b": [*(_forms(style, articles)["b"] for style in styles), "{w}"],
        "i": [imperative for edit in edits for imperative in edit["imperatives"]] + words["wishes"],
        "p": [phrase for edit in edits for phrase in edit["phrases"]] + words["circumstances"],
        **{key: words[kind] for key, kind in _SLOTS.items()},
    }
    escaped = re.escape(_without_n(template))
    for key, values in slots.items():
        slot = re.escape(f"{{{key}}}")
        escaped = escaped.replace(slot, f"(?:{'|'.join(re.escape(_without_n(value)) for value in values)})")
    openings, endings = ("|".join(map(re.escape, words[kind])) for kind in ("openings", "endings"))
    return re.compile(f"(?:{openings})?{escaped}(?:{endings})")


def _without_n(text: str) -> str:
    return re.sub(r"\ban ", "a ", text)


def misspelt(sentence: str, random: np.random.Generator) -> str:
    """Return the sentence with one common misspelling, or a typing error in a long word."""
    misspellings = _WORDS["en"]["misspellings"]
    known = [word for word in re.findall(r"\w+", sentence) if word in misspellings]
    if known and random.random() < 0.6:
        word = _pick(known, random)
        return re.sub(rf"\b{word}\b", _pick(misspellings[word], random), sentence)
    long = list(_LONG_WORD.finditer(sentence))
    if not long:
        return sentence
    match = long[random.integers(len(long))]
    at = match.start() + int(random.integers(1, len(match[0]) - 1))
    one, other = sentence[at], sentence[at + 1]
    return sentence[:at] + _pick([one, one + one + other, other + one], random) + sentence[at + 2 :]


def _forms(style: str, articles: list[str]) -> dict[str, str]:
    """Return the forms of a style: without its article, and with the English indefinite one."""
    bare = re.sub(rf"^(?:{'|'.join(articles)}) ", "", style) if articles else style
    return {"b": bare, "a": f"{'an' if bare[0] in 'aeiou8' else 'a'} {bare}"}


def _vary(sentence: str, words: dict[str, Any], random: np.random.Generator) -> str:
    if random.random() < 0.08:
        sentence = _pick(words["openings"], random) + sentence
    if random.random() < 0.1:
        sentence = misspelt(sentence, random)
    if words["spellings"] and random.random() < 0.3:
        sentence = _spell(sentence, words["spellings"][random.integers(len(words["spellings"]))])
    sentence += _pick(words["endings"], random)
    chance = random.random()
    return sentence if chance < 0.7 else sentence.capitalize() if chance < 0.95 else sentence.upper()


def _spell(text: str, spelling: dict[str, str]) -> str:
    for usual, other in spelling.items():
        text = text.replace(usual, other)
    return text


def _spelt(texts: Iterable[str], words: dict[str, Any]) -> list[str]:
    """Return the texts in all spellings of a language."""
    return [other for text in texts for other in {text, *(_spell(text, spelling) for spelling in words["spellings"])}]


def _split(texts: Iterable[str]) -> list[str]:
    """Return the words in texts; in Japanese and Chinese short runs of one script."""
    words = [word for text in texts for word in _WORD.findall(text.lower())]
    return [part for word in words for part in (_UNSPACED_WORD.findall(word) if _has_unspaced(word) else [word])]


def _has_unspaced(word: str) -> bool:
    return re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", word) is not None


def _random_language(random: np.random.Generator) -> str:
    return "en" if random.random() < _ENGLISH_SHARE else LANGUAGES[random.integers(1, len(LANGUAGES))]


def _pick(choices: list[str], random: np.random.Generator) -> str:
    return choices[random.integers(len(choices))]
