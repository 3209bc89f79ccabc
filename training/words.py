"""Teaches the text encoder to tell the edits apart, or the emoji, before the UNet sees a picture.

`python -m training.words --work DIR --minutes 3` trains it, together with the UNet's embedding of words, and writes `words.pt`.
Every instruction is led to the prototype of its edit, so that the UNet meets few, well separated vectors however an edit is
worded, and need not learn language. Training the UNet leaves both as they are. `training.redraw` does the same with names.

`--model DIRECTORY` teaches the words of instructions.toml anew to the model in that directory, in place: what each edit is told
to its UNet stays, and so do the UNet's other weights. The work directory needs nothing but the tokenizer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
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
# How often a word is spelt from smaller pieces (Provilkov et al. 2020, BPE-dropout): "raining" is then "rain" and "ing".
_PIECES = 0.12
_REPLACED = 0.15
# How many wordings have words that no class is called by: beside their own, or in their place where they name no class. So
# such words mean nothing, and alone they name no class.
_STRANGE = 0.4
_SAME = 0.9  # the cosine above which two vectors say the same


WordVectors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Language:
    """Classes of wordings, such as the edits.

    `file` keeps in the work directory what `teach` learnt. `speak` gives a random wording of the class of that number, and
    of number `count` words that name none, of which training takes the share `unnamed`. `words` are all that wordings of
    classes are made of. `asked` are numbers of classes and wordings of them that `speak` never gives.
    """

    file: str
    count: int
    speak: Callable[[int, np.random.Generator], str]
    unnamed: float
    words: Sequence[str]
    asked: Sequence[tuple[int, str]]


def _speak_of_edits(number: int, random: np.random.Generator) -> str:
    return instruction(list(EDITS)[number], random) if number < len(EDITS) else neutral_instruction(random)


INSTRUCTIONS = Language(
    "words.pt",
    len(EDITS),
    _speak_of_edits,
    0.3,
    words_of_edits(),
    [(number, text) for number, name in enumerate(EDITS) for text in HELD_OUT[name]]
    + [(len(EDITS), text) for text in NEUTRAL_HELD_OUT],
)


def teach(work: Path, language: Language, budget: Budget) -> float:
    """Train within the budget, write the language's file, and return which share of what is asked is understood.

    Goes on from the language's file if there is one, whichever tokenizer it was made with.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting.backend_tokenizer.model.dropout = _PIECES
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    path, count = work / language.file, language.count
    # One for each class, one for words that name none, one for no words. Those of an earlier run stay where they are, so that
    # a UNet that was trained with them understands what the new text encoder says.
    prototypes, earlier = nn.Parameter(torch.randn(count + 2, embedding.proj.out_features)), 0
    if path.exists():
        known = torch.load(path, weights_only=True)
        earlier = known["steps"]
        prototypes = nn.Parameter(known["prototypes"], requires_grad=False)
        embedding.load_state_dict(known["embedding"])
        text_encoder.load_state_dict(_with_tokens_of(text_encoder, tokenizer, known))
    parameters = [*text_encoder.parameters(), *embedding.parameters(), prototypes]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.03)
    random = np.random.default_rng([61, earlier])
    strange = _strange_tokens(language, tokenizer)

    begin, step = time.monotonic(), 0
    while (spent := budget.spent(time.monotonic() - begin, step)) < 1:
        classes = random.integers(0, count, _BATCH)
        classes[random.random(_BATCH) < language.unnamed] = count
        classes[random.random(_BATCH) < _EMPTY_SHARE] = count + 1
        tokens = [
            token_ids(tokenizer, "")
            if number > count
            else _misspell(language.speak(int(number), random), tokenizer, splitting, random)
            for number in classes
        ]
        for number, ids in zip(classes, tokens, strict=True):
            if number <= count and random.random() < _STRANGE:
                _estrange(ids, strange, random, replacing=number == count)
        vectors, answers = _told(text_encoder, embedding, tokens), torch.from_numpy(classes)
        wanted = prototypes[answers]
        distance = (vectors - wanted).square().sum(1) / wanted.square().sum(1)
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
        vectors = _told(text_encoder, embedding, [token_ids(tokenizer, text) for _, text in language.asked])
        given = _cosines(vectors, prototypes).argmax(1).tolist()
    say(
        f"loss {loss.item():.3f}; not understood: "
        + ", ".join(text for (n, text), g in zip(language.asked, given, strict=True) if n != g)
    )
    return sum(number == answer for (number, _), answer in zip(language.asked, given, strict=True)) / len(
        language.asked
    )


@torch.no_grad()
def word_vectors(
    work: Path,
    language: Language,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    embedding: nn.Module,
    wordings: int,
) -> WordVectors:
    """What the UNet is told: for each class that many vectors, for words that name none as many, and one for no words.

    Shapes (count, wordings, width), (wordings, width), (1, width). Loads what `teach` wrote into both modules.
    """
    known = torch.load(work / language.file, weights_only=True)
    text_encoder.load_state_dict(known["text_encoder"])
    embedding.load_state_dict(known["embedding"])
    random = np.random.default_rng(67)

    def vectors(texts: list[str]) -> Tensor:
        return _told(text_encoder, embedding, [token_ids(tokenizer, text) for text in texts])

    *named, unnamed = (
        vectors([language.speak(number, random) for _ in range(wordings)]) for number in range(language.count + 1)
    )
    return torch.stack(named), unnamed, vectors([""])


def ask(directory: Path, work: Path, language: Language) -> None:
    """Write the language's file from what the model in `directory` knows, for `teach` to go on from."""
    pipeline = load(directory)
    prototypes = heard_by(pipeline, language)
    _save(work / language.file, pipeline.tokenizer, pipeline.text_encoder, pipeline.unet.add_embedding, prototypes)


@torch.no_grad()
def heard_by(pipeline: Any, language: Language, wordings: int = 200) -> Tensor:
    """The prototypes, shape (count + 2, width), that the UNet of this pipeline was trained with.

    Of a class it is the middle of the vectors that say the same as most of its wordings, in case the model does not know some.
    """
    random = np.random.default_rng(71)

    def middle(texts: list[str]) -> Tensor:
        tokens = [token_ids(pipeline.tokenizer, text) for text in texts]
        vectors = _told(pipeline.text_encoder, pipeline.unet.add_embedding, tokens)
        same = _cosines(vectors, vectors) > _SAME
        return vectors[same[same.sum(1).argmax()]].mean(0)

    classes = [[language.speak(n, random) for _ in range(wordings)] for n in range(language.count + 1)]
    return torch.stack([middle(texts) for texts in [*classes, [""]]])


def tell(directory: Path, work: Path, language: Language) -> None:
    """Put what `teach` learnt, and the tokenizer, in the place of those of the model in `directory`."""
    pipeline = load(directory)
    known = torch.load(work / language.file, weights_only=True)
    pipeline.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    pipeline.text_encoder = make_text_encoder(len(pipeline.tokenizer))
    pipeline.text_encoder.load_state_dict(known["text_encoder"])
    pipeline.unet.add_embedding.load_state_dict(known["embedding"])
    save(pipeline, directory)


def load(directory: Path) -> Any:
    """The pipeline of tiny-edit in `directory`, in float32, to teach it."""
    return StableDiffusionInstructPix2PixPipeline.from_pretrained(directory, dtype=torch.float32)


def _save(
    path: Path, tokenizer: Any, text_encoder: nn.Module, embedding: nn.Module, prototypes: Tensor, steps: int = 0
) -> None:
    state = {"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict(), "prototypes": prototypes}
    torch.save(state | {"tokens": tokenizer.convert_ids_to_tokens(range(len(tokenizer))), "steps": steps}, path)


def _with_tokens_of(text_encoder: CLIPTextModel, tokenizer: Any, known: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that are known, with a vector for each token of the tokenizer: the known one where the token was known."""
    fresh = text_encoder.state_dict()
    (name,) = (name for name in fresh if name.endswith("token_embedding.weight"))
    vectors, old = fresh[name].clone(), known["text_encoder"][name]
    numbers = {token: number for number, token in enumerate(known["tokens"])}
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in numbers:
            vectors[number] = old[numbers[token]]
    return {**known["text_encoder"], name: vectors}


def _told(text_encoder: CLIPTextModel, embedding: nn.Module, tokens: list[list[int]]) -> Tensor:
    """What the UNet is told by sentences of tokens, shape (sentences, width)."""
    return torch.as_tensor(embedding(text_encoder(torch.tensor(tokens))[0]))


def _cosines(vectors: Tensor, others: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1) @ functional.normalize(others, dim=1).T


def _strange_tokens(language: Language, tokenizer: CLIPTokenizer) -> list[int]:
    """Tokens that are no part of what the wordings of classes are made of."""
    usual = " ".join(language.words).lower()
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return [number for number, token in enumerate(tokens) if number > 1 and token.removesuffix("</w>") not in usual]


def _estrange(ids: list[int], strange: list[int], random: np.random.Generator, replacing: bool) -> None:
    """Put one to three strange words among those of a sentence, or in the place of some."""
    for _ in range(random.integers(1, 4)):
        at, word = int(random.integers(1, ids.index(1) + (not replacing))), int(random.choice(strange))
        if replacing:
            ids[at] = word
        elif ids[-2] == 1:
            ids.insert(at, word)
            ids.pop()


def _misspell(text: str, tokenizer: CLIPTokenizer, splitting: CLIPTokenizer, random: np.random.Generator) -> list[int]:
    """Tokens of the text, often misspelt or with a word replaced: unknown words must not matter."""
    ids = token_ids(splitting if random.random() < 0.5 else tokenizer, text)
    length = ids.index(1)
    if length > 4 and random.random() < _REPLACED:
        ids[random.integers(1, length)] = int(random.integers(2, len(tokenizer)))
    return ids


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--model", type=Path, help="a directory of tiny-edit that is to learn the words anew")
    options = parser.parse_args()
    words = options.work / INSTRUCTIONS.file
    if options.model and not words.exists():
        ask(options.model, options.work, INSTRUCTIONS)
    elif options.model:
        told = torch.load(words, weights_only=True)["prototypes"]
        if functional.cosine_similarity(told, heard_by(load(options.model), INSTRUCTIONS)).min() < _SAME:
            parser.error(f"{words} belongs to another UNet than that of {options.model}; take another work directory.")
    understood = teach(options.work, INSTRUCTIONS, Budget(options.minutes))
    say(f"{100 * understood:.0f} % of the wordings never trained on are understood")
    if options.model:
        tell(options.model, options.work, INSTRUCTIONS)
