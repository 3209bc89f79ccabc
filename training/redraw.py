"""tiny-redraw: draws emoji by their names over a picture, with diffusers' StableDiffusionImg2ImgPipeline.

`python -m training.redraw --work DIR --minutes N` trains it with the tokenizer and autoencoder of tiny-edit, and continues
where it stopped; `--assemble DIRECTORY` writes the model's directory instead.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from training import emoji
from training.assemble import assemble, megabytes
from training.autoencoder import CHANNELS
from training.distributed import Budget, launch, seed_of, working_dtype
from training.latents import encode
from training.networks import make_unet
from training.patches import load_patches
from training.stages import say, unet_parser
from training.unet import begin_as_identity, denoising_loss, learn, step_from_noisier
from training.words import Language, WordVectors, teach

# Height and width in pixels; the number of pictures of each emoji on white, and on other backgrounds.
_SHAPES = (((128, 128), 12, 12), ((128, 192), 4, 4), ((192, 128), 4, 4))
_WORDINGS = 24
_WORDLESS = 0.12
_PHOTOS = 600  # without an emoji, of each shape
_PLAIN = 0.4  # share of backgrounds in one colour; the others are photos
# From this timestep on, a growing share of the inputs, up to this one, are other pictures than the target.
_FOREIGN_FROM, _FOREIGN = 500, 0.8
_FURTHEST = 60  # timesteps; 25 steps at strength 0.9 are 36 long
_SENTENCES = [
    *["{}"] * 6,
    *["a {}"] * 4,
    "an {}",
    "the {}",
    "one {}",
    "{} emoji",
    "a {} emoji",
    "an icon of {}",
    "an icon of a {}",
    "a picture of a {}",
    "a drawing of a {}",
    "a photo of a {}",
    "a cute {}",
    "a big {}",
]
_ASKINGS = [
    *["{}"] * 6,
    "draw {}",
    "paint {}",
    "make it {}",
    "make {}",
    "turn it into {}",
    "turn this into {}",
    "change it to {}",
    "i want {}",
    "show me {}",
    "can you draw {}",
    "{} please",
    "{}, please",
]
_OTHERS = ["a picture", "something", "a nice one", "anything", "draw something", "surprise me", "whatever you like"]
_WORDS, _MINUTES_OF_WORDS = "words-redraw.pt", 3
_UNSEEN = "would you sketch a small {} for me"


def language_of(names: list[str]) -> Language:
    """Return the language of sentences with the names of these emoji."""

    def random_wording(number: int, random: np.random.Generator) -> str:
        if number == len(names):
            return str(random.choice(_OTHERS))
        wording = str(random.choice(emoji.CALLED[names[number]]))
        for sentences in (_SENTENCES, _ASKINGS):
            wording = sentences[random.integers(len(sentences))].format(wording)
        return wording

    development = [(number, _UNSEEN.format(name)) for number, name in enumerate(names)]
    words = [other for name in names for other in emoji.CALLED[name]]
    return Language(
        _WORDS, len(names), random_wording, 0.1, [*words, *_SENTENCES, *_ASKINGS], development, random_wording
    )


def draw_on_white(picture: NDArray[np.uint8], shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the emoji (128, 128, 4) upright near the middle of a white picture, (height, width, 3)."""
    ground = Image.new("RGB", (shape[1], shape[0]), "white")
    return _draw(picture, ground, random.uniform(-4, 4), random.uniform(0.9, 1.02), random.uniform(-3, 3, 2))


def draw_on_ground(
    picture: NDArray[np.uint8], photos: NDArray[np.uint8], shape: tuple[int, int], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw the emoji (128, 128, 4) rotated, scaled, moved, perhaps mirrored, on a colour or a photo, (height, width, 3)."""
    height, width = shape
    if random.random() < _PLAIN:
        red, green, blue = (int(level) for level in random.integers(0, 256, 3))
        ground = Image.new("RGB", (width, height), (red, green, blue))
    else:
        ground = Image.fromarray(photos[random.integers(len(photos))]).resize((width, height))
    drawing = _draw(picture, ground, random.uniform(-10, 10), random.uniform(0.75, 1.05), random.uniform(-8, 8, 2))
    return drawing[:, ::-1].copy() if random.random() < 0.4 else drawing


def _draw(
    picture: NDArray[np.uint8], ground: Image.Image, degrees: float, size: float, offset: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Draw the emoji at `size` of the shorter side, `offset` pixels (x, y) from the middle of the background."""
    angle, zoom = np.radians(degrees), emoji.SIDE / min(ground.size) / size
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    middle = np.array(ground.size) / 2 + offset
    x = emoji.SIDE / 2 - cosine * middle[0] + sine * middle[1]
    y = emoji.SIDE / 2 - sine * middle[0] - cosine * middle[1]
    matrix = (cosine, -sine, x, sine, cosine, y)
    drawing = Image.fromarray(picture).transform(
        ground.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255, 0)
    )
    ground.paste(drawing, mask=drawing.getchannel("A"))
    return np.asarray(ground)


def compute_latents(work: Path) -> None:
    """Write latents of emoji and photos if they are missing: `redraw-<height>x<width>.npy`, those on white first.

    Their shape is (emoji, pictures, channels, height / 4, width / 4); without the first axis in `redraw-photos-…`.
    """
    autoencoder: Any = AutoencoderTiny.from_pretrained(work / "autoencoder")
    autoencoder.to(working_dtype()).to(memory_format=torch.channels_last)
    _, pictures = emoji.load_drawn(work)
    photos = load_patches(work, 128)
    for number, (shape, white, others) in enumerate(_SHAPES):
        path = _latents_path(work, shape)
        if path.exists():
            continue
        random = np.random.default_rng([41, number])
        rows = []
        for picture in pictures:
            drawings = [draw_on_white(picture, shape, random) for _ in range(white)]
            drawings += [draw_on_ground(picture, photos, shape, random) for _ in range(others)]
            rows.append(encode(autoencoder, np.stack(drawings).astype(np.float32) / 255))
        some = photos[random.permutation(len(photos))[:_PHOTOS]]
        resized = [np.asarray(Image.fromarray(photo).resize((shape[1], shape[0]))) for photo in some]
        np.save(_photos_path(work, shape), encode(autoencoder, np.stack(resized).astype(np.float32) / 255))
        np.save(path, np.stack(rows))
        say(str(path))


def train(work: Path, budget: Budget, batch: int, rate: float, channels: tuple[int, int, int] = (64, 96, 160)) -> None:
    """Train in this process, together with the others. Writes `work`/unet-redraw and `work`/text_encoder-redraw."""
    names, _ = emoji.load_drawn(work)
    photos = [torch.from_numpy(np.load(_photos_path(work, shape))) for shape, _, _ in _SHAPES]
    stored = [torch.from_numpy(np.load(_latents_path(work, shape))) for shape, _, _ in _SHAPES]

    def loss_with(unet: nn.Module, vectors: WordVectors) -> Callable[[int], Tensor]:
        name_vectors, neutral, empty = vectors
        nothing = torch.cat([neutral, empty.expand_as(neutral)])

        def loss_of(step: int) -> Tensor:
            random = np.random.default_rng(seed_of(43, step))
            # Every fourth batch is oblong, portrait and landscape in turn.
            which = 0 if step % 4 else 1 + step // 4 % 2
            _, white, others = _SHAPES[which]
            count = batch if step % 4 else batch * 2 // 3
            # Noisy timesteps decide what is drawn.
            timesteps = torch.from_numpy((1000 * random.random(count) ** 0.5).astype(np.int64))
            chosen = random.integers(0, len(names), count)
            # With high strength, the result is what the text names, on white, whatever the picture was.
            foreign = random.random(count) < _FOREIGN * (timesteps.numpy() - _FOREIGN_FROM) / (1000 - _FOREIGN_FROM)
            variant = np.where(foreign, random.integers(0, white, count), random.integers(0, white + others, count))
            targets = stored[which][chosen, variant].float()
            index = np.where(foreign, random.integers(0, len(names), count), chosen)
            latents = stored[which][
                index, np.where(foreign, random.integers(0, white + others, count), variant)
            ].float()
            is_photo = torch.from_numpy(foreign & (random.random(count) < 0.5)).view(-1, 1, 1, 1)
            latents = torch.where(
                is_photo, photos[which][random.integers(0, len(photos[which]), count)].float(), latents
            )
            text_vectors = name_vectors[chosen, random.integers(0, _WORDINGS, count)]
            dropped = torch.from_numpy(random.random(count) < _WORDLESS)
            text_vectors = torch.where(dropped[:, None], nothing[random.integers(0, len(nothing), count)], text_vectors)
            noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
            latents, noise = step_from_noisier(unet, timesteps, latents, noise, [], text_vectors, random, _FURTHEST)
            return denoising_loss(unet, timesteps, latents, noise, [], text_vectors, targets)

        return loss_of

    torch.manual_seed(0)
    unet = begin_as_identity(make_unet(channels, CHANNELS))
    learn(work, budget, rate, unet, language_of(names), _WORDINGS, loss_with, "-redraw")


def _latents_path(work: Path, shape: tuple[int, int]) -> Path:
    return work / f"redraw-{shape[0]}x{shape[1]}.npy"


def _photos_path(work: Path, shape: tuple[int, int]) -> Path:
    return work / f"redraw-photos-{shape[0]}x{shape[1]}.npy"


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    parser.add_argument("--assemble", type=Path, metavar="DIRECTORY")
    options = parser.parse_args()
    if options.assemble:
        assemble(options.work, options.assemble, "unet-redraw", StableDiffusionImg2ImgPipeline)
        say(f"{options.assemble}: {megabytes(options.assemble):.1f} MB")
    else:
        compute_latents(options.work)
        if not (options.work / _WORDS).exists():
            language = language_of(emoji.load_drawn(options.work)[0])
            understood = teach(options.work, language, Budget(_MINUTES_OF_WORDS))
            say(f"{100 * understood:.0f} % of the names are understood in a sentence never trained on")
        budget = Budget(options.minutes, options.cooling)
        launch(train, options.processes, options.work, budget, options.batch, options.rate)
