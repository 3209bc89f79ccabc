"""Teaches the text encoder to tell the edits apart, before the UNet sees a picture.

`python -m training.words --work DIR --minutes 3` trains it, together with the UNet's embedding of words, and writes `words.pt`.
Every instruction is led to the prototype of its edit, so that the UNet meets few, well separated vectors however an edit is
worded, and need not learn language. Training the UNet leaves both as they are.
"""

import time
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


def teach(work: Path, budget: Budget) -> float:
    """Train within the budget, write `work`/words.pt, and return which share of the held-out wordings is understood."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting: Any = CLIPTokenizer.from_pretrained(work / "tokenizer")
    splitting.backend_tokenizer.model.dropout = _PIECES
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    names = list(EDITS)
    # One for each edit, one for words that name none, one for no words.
    prototypes = nn.Parameter(torch.randn(len(names) + 2, embedding.proj.out_features))
    parameters = [*text_encoder.parameters(), *embedding.parameters(), prototypes]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.03)
    random = np.random.default_rng(61)

    def cosines(tokens: list[list[int]]) -> Tensor:
        vectors = embedding(text_encoder(torch.tensor(tokens))[0])
        return functional.normalize(vectors, dim=1) @ functional.normalize(prototypes, dim=1).T

    begin, step = time.monotonic(), 0
    while (spent := budget.spent(time.monotonic() - begin, step)) < 1:
        classes = random.integers(0, len(names), _BATCH)
        classes[random.random(_BATCH) < _NEUTRAL_SHARE] = len(names)
        classes[random.random(_BATCH) < _EMPTY_SHARE] = len(names) + 1
        tokens = [_say(int(number), names, tokenizer, splitting, random) for number in classes]
        near, answers = cosines(tokens), torch.from_numpy(classes)
        loss = functional.cross_entropy(_SHARPNESS * near, answers) + (1 - near[range(_BATCH), answers]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 3 * (1 - spent))
        optimizer.step()
        step += 1
    torch.save({"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict()}, work / "words.pt")
    asked = [(number, text) for number, name in enumerate(names) for text in HELD_OUT[name]]
    with torch.no_grad():
        given = cosines([token_ids(tokenizer, text) for _, text in asked]).argmax(1).tolist()
    say(
        f"loss {loss.item():.3f}; not understood: "
        + ", ".join(text for (n, text), g in zip(asked, given, strict=True) if n != g)
    )
    return sum(number == answer for (number, _), answer in zip(asked, given, strict=True)) / len(asked)


@torch.no_grad()
def word_vectors(
    work: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, embedding: nn.Module, wordings: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the UNet is told: for each edit that many vectors, for words that name none as many, and one for no words.

    Shapes (edits, wordings, width), (wordings, width), (1, width). Loads `work`/words.pt into both modules.
    """
    known = torch.load(work / "words.pt", weights_only=True)
    text_encoder.load_state_dict(known["text_encoder"])
    embedding.load_state_dict(known["embedding"])
    random = np.random.default_rng(67)

    def vectors(texts: list[str]) -> Tensor:
        return torch.as_tensor(embedding(text_encoder(torch.tensor([token_ids(tokenizer, t) for t in texts]))[0]))

    edits = torch.stack([vectors([instruction(name, random) for _ in range(wordings)]) for name in EDITS])
    return edits, vectors([neutral_instruction(random) for _ in range(wordings)]), vectors([""])


def _say(
    number: int, names: list[str], tokenizer: CLIPTokenizer, splitting: CLIPTokenizer, random: np.random.Generator
) -> list[int]:
    """Tokens of a random instruction of a class, often misspelt or with a word replaced: unknown words must not matter."""
    if number > len(names):
        return token_ids(tokenizer, "")
    text = instruction(names[number], random) if number < len(names) else neutral_instruction(random)
    ids = token_ids(splitting if random.random() < 0.5 else tokenizer, text)
    length = ids.index(1)
    if length > 4 and random.random() < _REPLACED:
        ids[random.integers(1, length)] = int(random.integers(2, len(tokenizer)))
    return ids


if __name__ == "__main__":
    options = stage_parser(__doc__).parse_args()
    say(f"{100 * teach(options.work, Budget(options.minutes)):.0f} % of the wordings never trained on are understood")
