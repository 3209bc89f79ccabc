"""A small byte pair tokenizer for the grammar's words. `python -m training.tokenizer --work DIR`.

It has a token for each of the usual characters of Japanese and Chinese, so that an ordinary sentence fits, also an unknown one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from training.edits import EDITS
from training.emoji import listed_names
from training.instructions import LANGUAGES, instruction, neutral_instruction
from training.stages import parse_arguments, say
from training.unknown_words import characters

LENGTH = 32

_VOCABULARY = 7000  # of the byte pairs that are learnt; pairs of characters' bytes come after them
_START, _END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own pattern: contractions, words, single digits, punctuation (Radford et al. 2021).
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train(directory: Path, wordings: int = 1200) -> CLIPTokenizer:
    """Train, with so many wordings of each edit, and save a tokenizer that transformers' CLIPTokenizer loads."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(alphabet),
        special_tokens=[_START, _END],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(_sentences(wordings), trainer)
    merges: list[Any] = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    merges += _merges_of_characters(merges)
    # Every single letter, inside and at the end of a word, so that no word is unknown.
    tokens = [
        _START,
        _END,
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(first + last for first, last in merges),
    ]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(directory)
    return CLIPTokenizer.from_pretrained(directory)


def _merges_of_characters(learnt: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the merges that are missing to join the three bytes of each character."""
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known, needed = set(learnt), dict[tuple[str, str], None]()
    for character in dict.fromkeys(character for language in LANGUAGES for character in characters(language)):
        ((letters, _),) = as_bytes.pre_tokenize_str(character)
        needed |= dict.fromkeys([(letters[0], letters[1]), (letters[:2], letters[2])])
        if (letters[1], letters[2]) in known:  # these may be joined first
            needed[letters[0], letters[1:]] = None
    return [merge for merge in needed if merge not in known]


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
