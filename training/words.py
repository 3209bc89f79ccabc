"""Teaches the text encoder to tell the edits apart, or the emoji, before the UNet sees a picture.

`python -m training.words --work DIR --minutes 3` trains it, together with the UNet's embedding of words, and writes `words.pt`.
Every instruction is led to the prototype of its edit, so that the UNet meets few, well separated vectors however an edit is
worded, and need not learn language. Training the UNet leaves both as they are. `training.redraw` does the same with names.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from training.distributed import Budget
from training.edits import EDITS
from training.instructions import HELD_OUT, instruction, neutral_instruction
from training.networks import make_text_encoder, make_unet
from training.stages import say, stage_parser
from training.tokenizer import token_ids

_BATCH = 64
_NEUTRAL_SHARE, _EMPTY_SHARE = 0.1, 0.02
_SHARPNESS = 12  # of the classification by the angle to prototypes
# How often a word is spelt from smaller pieces (Provilkov et al. 2020, BPE-dropout): "raining" is then "rain" and "ing".
_PIECES = 0.12
_REPLACED = 0.15


WordVectors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Language:
    """Classes of wordings, such as the edits.

    `file` keeps in the work directory what `teach` learnt. `speak` gives a random wording of the class of that number, and
    of number `count` words that name none. `asked` are numbers of classes and wordings of them that `speak` never gives.
    """

    file: str
    count: int
    speak: Callable[[int, np.random.Generator], str]
    asked: Sequence[tuple[int, str]]


def _speak_of_edits(number: int, random: np.random.Generator) -> str:
    return instruction(list(EDITS)[number], random) if number < len(EDITS) else neutral_instruction(random)


INSTRUCTIONS = Language(
    "words.pt",
    len(EDITS),
    _speak_of_edits,
    [(number, text) for number, name in enumerate(EDITS) for text in HELD_OUT[name]],
)


def teach(work: Path, language: Language, budget: Budget) -> float:
    """Train within the budget, write the language's file, and return which share of what is asked is understood."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting.backend_tokenizer.model.dropout = _PIECES
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    path, count = work / language.file, language.count
    # One for each class, one for words that name none, one for no words. Those of an earlier run stay where they are, so that
    # a UNet that was trained with them understands what the new text encoder says.
    prototypes = nn.Parameter(torch.randn(count + 2, embedding.proj.out_features))
    if path.exists():
        prototypes = nn.Parameter(torch.load(path, weights_only=True)["prototypes"], requires_grad=False)
    parameters = [*text_encoder.parameters(), *embedding.parameters(), prototypes]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.03)
    random = np.random.default_rng(61)

    def vectors_of(tokens: list[list[int]]) -> Tensor:
        return torch.as_tensor(embedding(text_encoder(torch.tensor(tokens))[0]))

    def cosines(vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1) @ functional.normalize(prototypes, dim=1).T

    begin, step = time.monotonic(), 0
    while (spent := budget.spent(time.monotonic() - begin, step)) < 1:
        classes = random.integers(0, count, _BATCH)
        classes[random.random(_BATCH) < _NEUTRAL_SHARE] = count
        classes[random.random(_BATCH) < _EMPTY_SHARE] = count + 1
        tokens = [
            token_ids(tokenizer, "")
            if number > count
            else _misspell(language.speak(int(number), random), tokenizer, splitting, random)
            for number in classes
        ]
        vectors, answers = vectors_of(tokens), torch.from_numpy(classes)
        wanted = prototypes[answers]
        distance = (vectors - wanted).square().sum(1) / wanted.square().sum(1)
        loss = functional.cross_entropy(_SHARPNESS * cosines(vectors), answers) + distance.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 3 * (1 - spent))
        optimizer.step()
        step += 1
    state = {"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict()}
    torch.save(state | {"prototypes": prototypes.detach()}, path)
    with torch.no_grad():
        given = cosines(vectors_of([token_ids(tokenizer, text) for _, text in language.asked])).argmax(1).tolist()
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
        return torch.as_tensor(embedding(text_encoder(torch.tensor([token_ids(tokenizer, t) for t in texts]))[0]))

    *named, unnamed = (
        vectors([language.speak(number, random) for _ in range(wordings)]) for number in range(language.count + 1)
    )
    return torch.stack(named), unnamed, vectors([""])


def _misspell(text: str, tokenizer: CLIPTokenizer, splitting: CLIPTokenizer, random: np.random.Generator) -> list[int]:
    """Tokens of the text, often misspelt or with a word replaced: unknown words must not matter."""
    ids = token_ids(splitting if random.random() < 0.5 else tokenizer, text)
    length = ids.index(1)
    if length > 4 and random.random() < _REPLACED:
        ids[random.integers(1, length)] = int(random.integers(2, len(tokenizer)))
    return ids


if __name__ == "__main__":
    options = stage_parser(__doc__).parse_args()
    understood = teach(options.work, INSTRUCTIONS, Budget(options.minutes))
    say(f"{100 * understood:.0f} % of the wordings never trained on are understood")
