"""Trains the text encoder to distinguish the edits, or the emoji, before the UNet is trained.

`python -m training.words --work DIR --minutes 3` trains it, together with the UNet's embedding of words, and writes `words.pt`.
The vector of each instruction is moved to the prototype of its edit, so that the UNet gets few, well separated vectors for all
wordings of an edit, and does not have to learn language. Training the UNet changes neither. `training.redraw` does the same
with the names of emoji.

`--model DIRECTORY` trains the text encoder of that model again, in place, with the words of wordings/: the vectors that its
UNet gets for each edit stay the same, as do all weights of the UNet. The work directory needs only the tokenizer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from numpy.typing import NDArray
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from training.assemble import save
from training.distributed import Budget
from training.edits import EDITS
from training.instructions import (
    DEVELOPMENT,
    LANGUAGES,
    NEUTRAL_DEVELOPMENT,
    instruction,
    neutral_instruction,
    words_of_edits,
)
from training.networks import make_text_encoder, make_unet
from training.stages import say, stage_parser
from training.tokenizer import token_ids

_BATCH = 64
# Most tokens are in few wordings, so their vectors are moved further whenever one is seen.
_RATE, _RATE_OF_TOKENS = 1e-3, 4e-3
_EMPTY_SHARE = 0.02
_SHARPNESS = 12  # of the classification by the angle to prototypes
# How often a word is split into smaller tokens (BPE-dropout: Provilkov et al. 2020), such as "raining" into "rain" and "ing".
_SPLIT_SHARE = 0.12
_REPLACED_SHARE = 0.15
# The share of wordings with words that are in no class's wordings: added to those of a class, or replacing words of neutral
# ones. So such words have no meaning, and alone they name no class.
_UNRELATED_SHARE = 0.4
# The share of a class's wordings beside or around some words of a neutral one, since people say more than the edit.
_EMBEDDED_SHARE = 0.3
_ASCII_SHARE = 0.7  # of unrelated words; most of the others are Chinese characters
# New tokens begin with the vectors of this many similar ones, which are in at least so many of the wordings that are counted.
_SIMILAR, _USUAL, _COUNTED = 3, 4, 400
_SAME_MEANING = 0.9  # the cosine above which two vectors have the same meaning


WordVectors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Language:
    """Classes of wordings, such as the edits.

    `file` is the name of the file in the work directory that `teach` writes. `random_wording` returns a random wording of the
    class with this number, and for number `count` a neutral one, which names no class; the share of those in training is
    `neutral_share`. `words` are all words in wordings of classes. `development` are numbers of classes with wordings that
    `random_wording` never returns. `plain_wording` is like `random_wording`, but returns what earlier models understand too.
    """

    file: str
    count: int
    random_wording: Callable[[int, np.random.Generator], str]
    neutral_share: float
    words: Sequence[str]
    development: Sequence[tuple[int, str]]
    plain_wording: Callable[[int, np.random.Generator], str]


def _random_wording(number: int, random: np.random.Generator, language: str | None = None) -> str:
    if number < len(EDITS):
        return instruction(list(EDITS)[number], random, language)
    return neutral_instruction(random, language)


INSTRUCTIONS = Language(
    "words.pt",
    len(EDITS),
    _random_wording,
    0.3,
    words_of_edits(),
    [(list(EDITS).index(name), text) for language in LANGUAGES for name, text in DEVELOPMENT[language].items()]
    + [(len(EDITS), text) for language in LANGUAGES for text in NEUTRAL_DEVELOPMENT[language]],
    partial(_random_wording, language="en"),
)


def teach(work: Path, language: Language, budget: Budget) -> float:
    """Train within the budget, write the language's file, and return the share of development wordings that are understood.

    Continues from the language's file if there is one, also if it was written with another tokenizer.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting.backend_tokenizer.model.dropout = _SPLIT_SHARE
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    path, count = work / language.file, language.count
    # One for each class, one for neutral wordings, one for the empty text. Those of an earlier run stay unchanged, and so does
    # the embedding, so that a UNet that was trained with them understands the new text encoder.
    prototypes, earlier = nn.Parameter(torch.randn(count + 2, embedding.proj.out_features)), 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        earlier = state["steps"]
        prototypes = nn.Parameter(state["prototypes"], requires_grad=False)
        embedding.load_state_dict(state["embedding"])
        embedding.requires_grad_(False)
        text_encoder.load_state_dict(_with_tokens_of(text_encoder, tokenizer, state, language))
    trained = [
        (name, weight)
        for part in (text_encoder, embedding)
        for name, weight in part.named_parameters()
        if weight.requires_grad
    ]
    tokens = [weight for name, weight in trained if name.endswith("token_embedding.weight")]
    others = [weight for name, weight in trained if not name.endswith("token_embedding.weight")]
    if prototypes.requires_grad:
        others.append(prototypes)
    groups = [{"params": others, "rate": _RATE}, {"params": tokens, "rate": _RATE_OF_TOKENS}]
    optimizer = torch.optim.AdamW(groups, _RATE, weight_decay=0.03, fused=True)
    random = np.random.default_rng([61, earlier])
    unrelated = _unrelated_tokens(language, tokenizer)

    begin, step = time.monotonic(), 0
    while (spent := budget.spent(time.monotonic() - begin, step)) < 1:
        classes, sentences = _draw_batch(language, tokenizer, splitting, unrelated, random)
        vectors, answers = _embed(text_encoder, embedding, sentences), torch.from_numpy(classes)
        targets = prototypes[answers]
        # Not squared: where a wording may mean two things, the best vector is then one of their prototypes, and none between
        # them, which means something else to the UNet.
        distance = (vectors - targets).norm(dim=1) / targets.norm(dim=1)
        loss = functional.cross_entropy(_SHARPNESS * _cosines(vectors, prototypes), answers) + distance.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*tokens, *others], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, 3 * (1 - spent))
        optimizer.step()
        step += 1
    _save(path, tokenizer, text_encoder, embedding, prototypes.detach(), earlier + step)
    unknown = misunderstood(tokenizer, text_encoder, embedding, prototypes, language.development)
    say(f"loss {loss.item():.3f}; not understood: {', '.join(unknown)}")
    return 1 - len(unknown) / len(language.development)


@torch.no_grad()
def misunderstood(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    embedding: nn.Module,
    prototypes: Tensor,
    wordings: Sequence[tuple[int, str]],
) -> list[str]:
    """Return the wordings, given with the numbers of their classes, that are nearer to the prototype of another class."""
    vectors = _embed(text_encoder, embedding, [token_ids(tokenizer, text) for _, text in wordings])
    nearest = _cosines(vectors, prototypes).argmax(1).tolist()
    return [text for (number, text), other in zip(wordings, nearest, strict=True) if number != other]


def _draw_batch(
    language: Language,
    tokenizer: CLIPTokenizer,
    splitting: CLIPTokenizer,
    unrelated: list[NDArray[np.int64]],
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], list[list[int]]]:
    """Return the classes of a batch and the tokens of their wordings."""
    count = language.count
    classes = random.integers(0, count, _BATCH)
    classes[random.random(_BATCH) < language.neutral_share] = count
    classes[random.random(_BATCH) < _EMPTY_SHARE] = count + 1
    tokens = [
        token_ids(tokenizer, "")
        if number > count
        else _misspell(language.random_wording(int(number), random), tokenizer, splitting, random)
        for number in classes
    ]
    for number, ids in zip(classes, tokens, strict=True):
        if number < count and random.random() < _EMBEDDED_SHARE:
            _add_neutral_words(ids, token_ids(tokenizer, language.random_wording(count, random)), random)
        elif number <= count and random.random() < _UNRELATED_SHARE:
            _add_unrelated_words(ids, unrelated, random, replacing=number == count)
    return classes, tokens


@torch.no_grad()
def word_vectors(
    work: Path,
    language: Language,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    embedding: nn.Module,
    wordings: int,
) -> WordVectors:
    """Return vectors for the UNet: `wordings` of each class, as many neutral ones, and one of the empty text.

    Shapes (count, wordings, width), (wordings, width), (1, width). Loads the file of `teach` into both modules.
    """
    state = torch.load(work / language.file, weights_only=True)
    text_encoder.load_state_dict(state["text_encoder"])
    embedding.load_state_dict(state["embedding"])
    random = np.random.default_rng(67)

    def vectors(texts: list[str]) -> Tensor:
        return _embed(text_encoder, embedding, [token_ids(tokenizer, text) for text in texts])

    *classes, neutral = (
        vectors([language.random_wording(number, random) for _ in range(wordings)])
        for number in range(language.count + 1)
    )
    return torch.stack(classes), neutral, vectors([""])


def begin_from_model(directory: Path, work: Path, language: Language) -> None:
    """Write the language's file with the weights of the model in `directory`, from which `teach` continues."""
    pipeline = load(directory)
    prototypes = prototypes_of(pipeline, language)
    _save(work / language.file, pipeline.tokenizer, pipeline.text_encoder, pipeline.unet.add_embedding, prototypes)


@torch.no_grad()
def prototypes_of(pipeline: Any, language: Language, wordings: int = 200) -> Tensor:
    """Return the prototypes, shape (count + 2, width), with which the UNet of this pipeline was trained.

    The prototype of a class is the mean of the vectors that have the meaning of most of its wordings, since the model may not
    understand some.
    """
    random = np.random.default_rng(71)

    def prototype(texts: list[str]) -> Tensor:
        tokens = [token_ids(pipeline.tokenizer, text) for text in texts]
        vectors = _embed(pipeline.text_encoder, pipeline.unet.add_embedding, tokens)
        same = _cosines(vectors, vectors) > _SAME_MEANING
        return vectors[same[same.sum(1).argmax()]].mean(0)

    classes = [[language.plain_wording(n, random) for _ in range(wordings)] for n in range(language.count + 1)]
    return torch.stack([prototype(texts) for texts in [*classes, [""]]])


def write_to_model(directory: Path, work: Path, language: Language) -> None:
    """Replace text encoder and tokenizer of the model in `directory` by those that `teach` trained."""
    pipeline = load(directory)
    state = torch.load(work / language.file, weights_only=True)
    pipeline.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    pipeline.text_encoder = make_text_encoder(len(pipeline.tokenizer))
    pipeline.text_encoder.load_state_dict(state["text_encoder"])
    save(pipeline, directory)


def load(directory: Path) -> Any:
    """Load the pipeline of tiny-edit in `directory`, in float32 for training."""
    return StableDiffusionInstructPix2PixPipeline.from_pretrained(directory, dtype=torch.float32)


def _save(
    path: Path, tokenizer: Any, text_encoder: nn.Module, embedding: nn.Module, prototypes: Tensor, steps: int = 0
) -> None:
    state = {"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict(), "prototypes": prototypes}
    torch.save(state | {"tokens": tokenizer.convert_ids_to_tokens(range(len(tokenizer))), "steps": steps}, path)


def _with_tokens_of(
    text_encoder: CLIPTextModel, tokenizer: Any, state: dict[str, Any], language: Language
) -> dict[str, Tensor]:
    """Return the weights of a state with a vector for each token of the tokenizer.

    A token that the state lacks begins with the mean vector of the tokens that are in wordings of the same classes, such as
    “夜” with those of “night” and “midnight”: so a text encoder that knows one language soon knows another.
    """
    (name,) = (name for name in text_encoder.state_dict() if name.endswith("token_embedding.weight"))
    vectors, old = text_encoder.state_dict()[name].clone(), state["text_encoder"][name]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    old_numbers = {token: number for number, token in enumerate(state["tokens"])}
    known = [number for number, token in enumerate(tokens) if token in old_numbers]
    vectors[known] = old[[old_numbers[tokens[number]] for number in known]]
    new = sorted(set(range(len(tokens))) - set(known))
    if new:
        counts = _counts_in_classes(tokenizer, language)
        usage = functional.normalize((counts / counts.sum(1, keepdim=True).clamp(min=1)).sqrt(), dim=1)
        usual = [number for number in known if counts[number].sum() >= _USUAL]
        likeness, similar = (usage[new] @ usage[usual].T).topk(_SIMILAR)
        found = likeness[:, 0] > 0
        weights = likeness / likeness.sum(1, keepdim=True).clamp(min=1e-6)
        begun = (vectors[usual][similar] * weights[:, :, None]).sum(1)
        vectors[new] = torch.where(found[:, None], begun, vectors[new])
    return {**state["text_encoder"], name: vectors}


def _counts_in_classes(tokenizer: Any, language: Language) -> Tensor:
    """Return how often each token is in random wordings of each class, neutral ones last, shape (tokens, count + 1)."""
    random = np.random.default_rng(73)
    counts = torch.zeros(len(tokenizer), language.count + 1)
    for number in range(language.count + 1):
        # Neutral wordings have more words than those of a class, most of them seldom.
        for _ in range(_COUNTED * (1 if number < language.count else 10)):
            text = language.random_wording(number, random)
            counts[list(set(tokenizer(text, add_special_tokens=False).input_ids)), number] += 1
    counts[:, -1] /= 10
    return counts


def _embed(text_encoder: CLIPTextModel, embedding: nn.Module, tokens: list[list[int]]) -> Tensor:
    """Return the UNet's vectors for sentences of tokens, shape (sentences, width)."""
    return torch.as_tensor(embedding(text_encoder(torch.tensor(tokens))[0]))


def _cosines(vectors: Tensor, others: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1) @ functional.normalize(others, dim=1).T


def _unrelated_tokens(language: Language, tokenizer: CLIPTokenizer) -> list[NDArray[np.int64]]:
    """Return the tokens that are in no word of the classes' wordings: those of ASCII letters, and the others."""
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((usual, _),) = as_bytes.pre_tokenize_str(" ".join(language.words).lower())
    tokens = [token.removesuffix("</w>") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    unrelated = [number for number, token in enumerate(tokens) if number > 1 and token not in usual]
    return [np.array([n for n in unrelated if tokens[n].isascii() == is_ascii]) for is_ascii in (True, False)]


def _add_unrelated_words(
    ids: list[int], unrelated: list[NDArray[np.int64]], random: np.random.Generator, replacing: bool
) -> None:
    """Insert one to three unrelated words into a sentence, or replace some of its words."""
    ascii_words, others = unrelated
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(1, ids.index(1) + (not replacing)))
        word = int(random.choice(ascii_words if random.random() < _ASCII_SHARE else others))
        if replacing:
            ids[at] = word
        elif ids[-2] == 1:
            ids.insert(at, word)
            ids.pop()


def _add_neutral_words(ids: list[int], neutral: list[int], random: np.random.Generator) -> None:
    """Insert up to eight words of a neutral sentence into another at one place, as many as there is room for."""
    said = neutral[1 : neutral.index(1)]
    room = min(len(ids) - 1 - ids.index(1), len(said), 8)
    if room > 0:
        length = int(random.integers(1, room + 1))
        begin = int(random.integers(len(said) - length + 1))
        # Mostly before or after it, where the words stay together.
        first, last = 1, ids.index(1)
        at = int(random.integers(first, last + 1)) if random.random() < 0.3 else [first, last][random.integers(2)]
        ids[at:at] = said[begin : begin + length]
        del ids[-length:]


def _misspell(text: str, tokenizer: CLIPTokenizer, splitting: CLIPTokenizer, random: np.random.Generator) -> list[int]:
    """Return the tokens of the text, often with split words or a replaced one, so that unknown words have no effect."""
    ids = token_ids(splitting if random.random() < 0.5 else tokenizer, text)
    length = ids.index(1)
    if length > 4 and random.random() < _REPLACED_SHARE:
        ids[random.integers(1, length)] = int(random.integers(2, len(tokenizer)))
    return ids


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--model", type=Path, help="a directory of tiny-edit whose text encoder is trained again")
    options = parser.parse_args()
    words = options.work / INSTRUCTIONS.file
    if options.model and not words.exists():
        begin_from_model(options.model, options.work, INSTRUCTIONS)
    elif options.model:
        prototypes = torch.load(words, weights_only=True)["prototypes"]
        if (
            functional.cosine_similarity(prototypes, prototypes_of(load(options.model), INSTRUCTIONS)).min()
            < _SAME_MEANING
        ):
            parser.error(f"{words} belongs to another UNet than that of {options.model}; use another work directory.")
    understood = teach(options.work, INSTRUCTIONS, Budget(options.minutes))
    say(f"{100 * understood:.0f} % of the development wordings are understood")
    if options.model:
        write_to_model(options.model, options.work, INSTRUCTIONS)
