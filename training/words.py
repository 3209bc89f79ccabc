"""Teaches the text encoder to tell the edits apart before the UNet sees a picture.

`python -m training.words --work DIR --minutes 2` trains it, and the UNet's embedding of words, to classify instructions, and
writes `words.pt`, where training the UNet begins. Without it the UNet takes thousands of steps to find out that words matter:
most of the 32 tokens are padding, and at first all instructions look the same.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer

from training.edits import EDITS
from training.instructions import HELD_OUT, instruction, neutral_instruction
from training.stages import say, stage_parser
from training.tokenizer import token_ids
from training.unet import make_text_encoder, make_unet

_BATCH = 64
_NEUTRAL_SHARE = 0.1


def teach(work: Path, minutes: float) -> float:
    """Train for that long, write `work`/words.pt, and return which share of the held-out wordings is understood."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text_encoder, embedding = make_text_encoder(len(tokenizer)), make_unet().add_embedding
    names = list(EDITS)
    head = nn.Linear(embedding.proj.out_features, len(names) + 1)
    parameters = [*text_encoder.parameters(), *embedding.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.01)
    random = np.random.default_rng(61)
    begin = time.monotonic()
    while time.monotonic() - begin < 60 * minutes:
        edits = random.integers(0, len(names), _BATCH)
        edits[random.random(_BATCH) < _NEUTRAL_SHARE] = len(names)
        said = [
            instruction(names[edit], random) if edit < len(names) else neutral_instruction(random) for edit in edits
        ]
        tokens = torch.tensor([token_ids(tokenizer, text) for text in said])
        loss = functional.cross_entropy(head(embedding(text_encoder(tokens)[0])), torch.from_numpy(edits))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    torch.save({"text_encoder": text_encoder.state_dict(), "embedding": embedding.state_dict()}, work / "words.pt")
    asked = [(number, text) for number, name in enumerate(names) for text in HELD_OUT[name]]
    with torch.no_grad():
        tokens = torch.tensor([token_ids(tokenizer, text) for _, text in asked])
        given = head(embedding(text_encoder(tokens)[0])).argmax(1).tolist()
    say(
        f"loss {loss.item():.3f}; not understood: "
        + ", ".join(text for (n, text), g in zip(asked, given, strict=True) if n != g)
    )
    return sum(number == answer for (number, _), answer in zip(asked, given, strict=True)) / len(asked)


if __name__ == "__main__":
    options = stage_parser(__doc__).parse_args()
    say(f"{100 * teach(options.work, options.minutes):.0f} % of the wordings never trained on are understood")
