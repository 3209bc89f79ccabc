"""A small byte pair tokenizer for the grammar's words. `python -m training.tokenizer --work DIR`.

It has a token for each of the usual characters of Japanese and Chinese, so that an ordinary sentence fits, also an unknown one.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from training.edits import EDITS
from training.emoji import listed_names
from training.instructions import LANGUAGES, instruction, neutral_instruction
from training.stages import parse_arguments, say
from training.unknown_words import characters

LENGTH = 32

_VOCABULARY = 12500  # characters and the pairs of them that are learnt
_START, _END, _END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"
# CLIP's own pattern: contractions, words, single digits, punctuation (Radford et al. 2021).
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Runs of one script in Japanese and Chinese, which are written without spaces.
_SCRIPTS = r"[\p{Han}々]+|\p{Hiragana}+|[\p{Katakana}ー]+"
_UNSPACED = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff々]")
# The longest tokens of these scripts.
_SHORT = re.compile(r"[\u4e00-\u9fff々]{1,2}|[\u3041-\u309f]{1,3}|[\u30a1-\u30faー]+")


def train(directory: Path, wordings: int = 1200) -> CLIPTokenizer:
    """Train, with so many wordings of each edit, and save a tokenizer that transformers' CLIPTokenizer loads."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=_END_OF_WORD, unk_token=_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.Split(Regex(_SCRIPTS), behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_START, _END],
        end_of_word_suffix=_END_OF_WORD,
        min_frequency=2,
        show_progress=False,
    )
    sentences = list(_sentences(wordings))
    learner.train_from_iterator(sentences, trainer)
    said = dict.fromkeys("".join(sentences).lower())
    usual = dict.fromkeys(character for language in LANGUAGES for character in characters(language))
    merges = list(
        dict.fromkeys(
            merge
            for merges in (
                _merges_of_characters([*said, *usual]),
                _merges_of_characters(said, _END_OF_WORD),
                _merges_of_words([tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]),
            )
            for merge in merges
        )
    )
    # Every single letter, inside and at the end of a word, so that no word is unknown.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        _START,
        _END,
        *alphabet,
        *(letter + _END_OF_WORD for letter in alphabet),
        *(first + last for first, last in merges),
    ]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(directory)
    return CLIPTokenizer.from_pretrained(directory)


def _merges_of_characters(said: Iterable[str], suffix: str = "") -> Iterator[tuple[str, str]]:
    """Return the merges that join the bytes of each character, which may be the last of a word."""
    for character in said:
        letters = _as_bytes(character)
        for end in range(1, len(letters)):
            yield letters[:end], letters[end] + (suffix if end == len(letters) - 1 else "")


def _merges_of_words(learnt: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Return the merges of characters as merges of their bytes.

    Where words are not separated, the end of a run of one script is within a word, too, and tokens are short: so whatever is
    said around a word, its tokens are the same.
    """
    for first, last in learnt:
        pair, word = (_as_bytes(first), _as_bytes(last)), (first + last).removesuffix(_END_OF_WORD)
        if not _UNSPACED.search(word):
            yield pair
        elif _SHORT.fullmatch(word):
            yield from ((pair[0], pair[1].removesuffix(_END_OF_WORD)), pair)


def _as_bytes(text: str) -> str:
    """Return the letters for the bytes of a text, which may end with the mark of a word's end."""
    word = text.removesuffix(_END_OF_WORD)
    ((letters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return letters + text[len(word) :]


def token_ids(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    """Return the text as LENGTH token ids, padded with the end token."""
    return list(tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True).input_ids)


def _sentences(wordings: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    for edit in EDITS:
        for _ in range(wordings):
            yield instruction(edit, random)
    for _ in range(5 * wordings):
        yield neutral_instruction(random)
    for name in listed_names():
        yield from [name] * 20


if __name__ == "__main__":
    trained = train(parse_arguments(__doc__).work / "tokenizer")
    say(f"{len(trained)} tokens")
