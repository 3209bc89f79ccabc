"""Trains the text encoder to distinguish the edits, or the emoji, before the UNet is trained.

`python -m training.words --work DIR --minutes 3` trains it, together with the UNet's embedding of words, and writes `words.pt`.
The vector of each instruction is moved to the prototype of its edit, so that the UNet gets few, well separated vectors for all
wordings of an edit, and does not have to learn language. Training the UNet changes neither. `training.redraw` does the same
with the names of emoji.

`--model DIRECTORY` trains the text encoder of that model again, in place, with the words of instructions.toml: the vectors that
its UNet gets for each edit stay the same, as do the UNet's other weights. The work directory needs only the tokenizer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from training.assemble import save
from training.distributed import Budget
from training.edits import EDITS
from training.instructions import HELD_OUT, NEUTRAL_HELD_OUT, instruction, neutral_instruction, words_of_edits
from training.networks import make_text_encoder, make_unet
from training.stages import say, stage_parser
from training.tokenizer import token_ids

_BATCH = 64
_EMPTY_SHARE = 0.02
_SHARPNESS = 12  # of the classification by the angle to prototypes
# How often a word is split into smaller tokens (BPE-dropout: Provilkov et al. 2020), such as "raining" into "rain" and "ing".
_SPLIT_SHARE = 0.12
_REPLACED_SHARE = 0.15
# The share of wordings with words that are in no class's wordings: added to those of a class, or replacing words of neutral
# ones. So such words have no meaning, and alone they name no class.
_UNRELATED_SHARE = 0.4
_SAME_MEANING = 0.9  # the cosine above which two vectors have the same meaning


WordVectors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Language:
    """Classes of wordings, such as the edits.

    `file` is the name of the file in the work directory that `teach` writes. `random_wording` returns a random wording of the
    class with this number, and for number `count` a neutral one, which names no class; the share of those in training is
    `neutral_share`. `words` are all words in wordings of classes. `held_out` are numbers of classes with wordings that
    `random_wording` never returns.
    """

    file: str
    count: int
    random_wording: Callable[[int, np.random.Generator], str]
    neutral_share: float
    words: Sequence[str]
    held_out: Sequence[tuple[int, str]]


def _random_wording(number: int, random: np.random.Generator) -> str:
    return instruction(list(EDITS)[number], random) if number < len(EDITS) else neutral_instruction(random)


INSTRUCTIONS = Language(
    "words.pt",
    len(EDITS),
    _random_wording,
    0.3,
    words_of_edits(),
    [(number, text) for number, name in enumerate(EDITS) for text in HELD_OUT[name]]
    + [(len(EDITS), text) for text in NEUTRAL_HELD_OUT],
)


def teach(work: Path, language: Language, budget: Budget) -> float:
    """Train within the budget, write the language's file, and return the share of held-out wordings that are understood.

    Continues from the language's file if there is one, also if it was written with another tokenizer.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting.backend_tokenizer.model.dropout = _SPLIT_SHARE
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    path, count = work / language.file, language.count
    # One for each class, one for neutral wordings, one for the empty text. Those of an earlier run stay unchanged, so that a
    # UNet that was trained with them understands the vectors of the new text encoder.
    prototypes, earlier = nn.Parameter(torch.randn(count + 2, embedding.proj.out_features)), 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        earlier = state["steps"]
        prototypes = nn.Parameter(state["prototypes"], requires_grad=False)
        embedding.load_state_dict(state["embedding"])
        text_encoder.load_state_dict(_with_tokens_of(text_encoder, tokenizer, state))
    parameters = [*text_encoder.parameters(), *embedding.parameters(), prototypes]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.03)
    random = np.random.default_rng([61, earlier])
    unrelated = _unrelated_tokens(language, tokenizer)

    begin, step = time.monotonic(), 0
    while (spent := budget.spent(time.monotonic() - begin, step)) < 1:
        classes, tokens = _draw_batch(language, tokenizer, splitting, unrelated, random)
        vectors, answers = _embed(text_encoder, embedding, tokens), torch.from_numpy(classes)
        targets = prototypes[answers]
        distance = (vectors - targets).square().sum(1) / targets.square().sum(1)
        loss = functional.cross_entropy(_SHARPNESS * _cosines(vectors, prototypes), answers) + distance.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 3 * (1 - spent))
        optimizer.step()
        step += 1
    _save(path, tokenizer, text_encoder, embedding, prototypes.detach(), earlier + step)
    with torch.no_grad():
        vectors = _embed(text_encoder, embedding, [token_ids(tokenizer, text) for _, text in language.held_out])
        predicted = _cosines(vectors, prototypes).argmax(1).tolist()
    misunderstood = [
        text for (number, text), other in zip(language.held_out, predicted, strict=True) if number != other
    ]
    say(f"loss {loss.item():.3f}; not understood: {', '.join(misunderstood)}")
    return 1 - len(misunderstood) / len(language.held_out)


def _draw_batch(
    language: Language,
    tokenizer: CLIPTokenizer,
    splitting: CLIPTokenizer,
    unrelated: list[int],
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
        if number <= count and random.random() < _UNRELATED_SHARE:
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

    classes = [[language.random_wording(n, random) for _ in range(wordings)] for n in range(language.count + 1)]
    return torch.stack([prototype(texts) for texts in [*classes, [""]]])


def write_to_model(directory: Path, work: Path, language: Language) -> None:
    """Replace text encoder, embedding and tokenizer of the model in `directory` by those that `teach` trained."""
    pipeline = load(directory)
    state = torch.load(work / language.file, weights_only=True)
    pipeline.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    pipeline.text_encoder = make_text_encoder(len(pipeline.tokenizer))
    pipeline.text_encoder.load_state_dict(state["text_encoder"])
    pipeline.unet.add_embedding.load_state_dict(state["embedding"])
    save(pipeline, directory)


def load(directory: Path) -> Any:
    """Load the pipeline of tiny-edit in `directory`, in float32 for training."""
    return StableDiffusionInstructPix2PixPipeline.from_pretrained(directory, dtype=torch.float32)


def _save(
    path: Path, tokenizer: Any, text_encoder: nn.Module, embedding: nn.Module, prototypes: Tensor, steps: int = 0
) -> None:
    state = {"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict(), "prototypes": prototypes}
    torch.save(state | {"tokens": tokenizer.convert_ids_to_tokens(range(len(tokenizer))), "steps": steps}, path)


def _with_tokens_of(text_encoder: CLIPTextModel, tokenizer: Any, state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a state with a vector for each token of the tokenizer: a new one if the state lacks the token."""
    untrained = text_encoder.state_dict()
    (name,) = (name for name in untrained if name.endswith("token_embedding.weight"))
    vectors, old = untrained[name].clone(), state["text_encoder"][name]
    numbers = {token: number for number, token in enumerate(state["tokens"])}
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in numbers:
            vectors[number] = old[numbers[token]]
    return {**state["text_encoder"], name: vectors}


def _embed(text_encoder: CLIPTextModel, embedding: nn.Module, tokens: list[list[int]]) -> Tensor:
    """Return the UNet's vectors for sentences of tokens, shape (sentences, width)."""
    return torch.as_tensor(embedding(text_encoder(torch.tensor(tokens))[0]))


def _cosines(vectors: Tensor, others: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1) @ functional.normalize(others, dim=1).T


def _unrelated_tokens(language: Language, tokenizer: CLIPTokenizer) -> list[int]:
    """Return the tokens that are in no word of the classes' wordings."""
    usual = " ".join(language.words).lower()
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return [number for number, token in enumerate(tokens) if number > 1 and token.removesuffix("</w>") not in usual]


def _add_unrelated_words(ids: list[int], unrelated: list[int], random: np.random.Generator, replacing: bool) -> None:
    """Insert one to three unrelated words into a sentence, or replace some of its words."""
    for _ in range(random.integers(1, 4)):
        at, word = int(random.integers(1, ids.index(1) + (not replacing))), int(random.choice(unrelated))
        if replacing:
            ids[at] = word
        elif ids[-2] == 1:
            ids.insert(at, word)
            ids.pop()


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
    say(f"{100 * understood:.0f} % of the held-out wordings are understood")
    if options.model:
        write_to_model(options.model, options.work, INSTRUCTIONS)
