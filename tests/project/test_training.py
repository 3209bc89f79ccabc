"""The training package: edits, words, checkpoints, and a directory that the stock pipeline loads. Nothing is downloaded."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image, ImageColor
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from generation.repositories.files import BUNDLED
from training import classifier, emoji, few_steps, redraw, unknown_words
from training.assemble import assemble, megabytes
from training.autoencoder import make_autoencoder
from training.card import Figure, compare
from training.distributed import Budget, launch
from training.edits import EDITS, apply
from training.evaluate import Settings, similarity, tally
from training.filters import Picture
from training.latents import compute
from training.networks import make_scheduler
from training.patches import load_patches, vary_colours
from training.photos import LICENCES, listed_photos
from training.scenes import draw_scene
from training.tokenizer import LENGTH, token_ids
from training.tokenizer import train as train_tokenizer
from training.unet import overshoot, step_from_noisier, train, x0_loss
from training.words import INSTRUCTIONS, begin_from_model, load, prototypes_of, teach, write_to_model

MINUSCULE = (64, 16, 16)


@pytest.fixture(scope="module")
def photo() -> Picture:
    """The sample picture of the start page, 96 x 128."""
    with Image.open("dreamsite/static/sample.jpg") as sample:
        return np.asarray(sample.convert("RGB").resize((128, 96), Image.Resampling.LANCZOS), np.float32) / 255


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with all inputs for training the UNet: patches are scenes, the autoencoder is untrained."""
    directory = tmp_path_factory.mktemp("training")
    random = np.random.default_rng(0)
    for side, count in ((128, 500), (256, 100)):
        scenes = np.stack([np.asarray(draw_scene(side, random)) for _ in range(4)])
        np.save(directory / f"patches-{side}.npy", np.repeat(scenes, count // 4, axis=0))
    train_tokenizer(directory / "tokenizer", wordings=30)
    torch.manual_seed(0)
    make_autoencoder(width=8).save_pretrained(directory / "autoencoder")
    (directory / "latents").mkdir()
    for side, edits in ((128, 6), (256, 4)):
        shape = (6, 12, side // 4, side // 4)
        targets = random.standard_normal((6, edits, *shape[1:])).astype(np.float16)
        chosen = np.stack([random.permutation(len(EDITS))[:edits] for _ in range(6)])
        np.savez(
            directory / "latents" / f"{side}-000.npz",
            sources=random.standard_normal(shape).astype(np.float16),
            targets=targets,
            edits=chosen,
        )
    teach(directory, INSTRUCTIONS, Budget(1, steps=2))
    return directory


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_photo_keeps_its_size_and_gives_the_same_again(name: str, photo: Picture) -> None:
    before = photo.copy()
    edited = apply(name, photo)
    assert edited.shape == photo.shape
    assert edited.dtype == np.float32
    assert 0 <= edited.min() <= edited.max() <= 1
    assert np.abs(edited - photo).mean() > 0.02
    assert np.array_equal(edited, apply(name, photo))
    assert np.array_equal(photo, before)


def test_no_two_edits_are_alike(photo: Picture) -> None:
    targets = np.stack([apply(name, photo[:64, 32:96]) for name in EDITS])
    distances = np.square(targets[:, None] - targets[None]).mean(axis=(2, 3, 4)) + np.eye(len(EDITS))
    assert distances.min() > 0.001
    assert len(EDITS) >= 40


def test_the_perceptual_measure_finds_an_edit_among_all(photo: Picture) -> None:
    targets = np.stack([apply(name, photo[:64, 32:96]) for name in EDITS])
    random = np.random.default_rng(0)
    for number in range(0, len(targets), 4):
        noisy = np.clip(targets[number] + random.normal(0, 0.03, targets[number].shape), 0, 1)
        assert similarity(noisy, targets).argmax() == number


@pytest.mark.parametrize(
    ("language", "sentence"), [("ja", "屋根の上に気球が浮かんでいたら素敵"), ("zh", "阿姨在阳台上削土豆")]
)
def test_a_sentence_of_any_usual_characters_fits(work: Path, language: str, sentence: str) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    for character in unknown_words.characters(language):
        assert len(tokenizer(character + "a", add_special_tokens=False).input_ids) == 2
    assert len(tokenizer(sentence).input_ids) < LENGTH


def test_every_listed_photo_is_free_of_share_alike_terms_and_at_least_twenty_are_held_out() -> None:
    photos = listed_photos()
    assert {photo.licence for photo in photos} <= LICENCES
    assert all(photo.author and len(photo.sha256) == 64 and photo.split in ("train", "held-out") for photo in photos)
    assert len({photo.name for photo in photos}) == len({photo.sha256 for photo in photos}) == len(photos)
    assert len(listed_photos("held-out")) >= 20


def test_patches_vary_in_colour_and_scenes_are_repeatable() -> None:
    scene = np.asarray(draw_scene(64, np.random.default_rng(3)))
    assert np.array_equal(scene, np.asarray(draw_scene(64, np.random.default_rng(3))))
    assert not np.array_equal(
        vary_colours(scene, np.random.default_rng(1)), vary_colours(scene, np.random.default_rng(2))
    )


def test_the_tokenizer_knows_the_words_of_the_grammar(work: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    assert tokenizer.tokenize("Pencil sketch") == ["pencil</w>", "sketch</w>"]
    numbers = token_ids(tokenizer, "qqq zebra é " * 30)
    assert len(numbers) == LENGTH
    assert numbers[0] == 0


def test_latents_are_computed_block_by_block_within_the_time(work: Path, tmp_path: Path) -> None:
    for name in ("patches-128.npy", "patches-256.npy", "autoencoder"):
        (tmp_path / name).symlink_to(work / name)
    compute(tmp_path, minutes=0)
    assert list((tmp_path / "latents").iterdir()) == []
    assert load_patches(tmp_path, 128).shape == (500, 128, 128, 3)


def test_the_loss_is_zero_for_the_true_answer_even_when_the_input_overshoots() -> None:
    random = np.random.default_rng(0)
    targets = torch.randn(8, 12, 4, 4)
    overshot = overshoot(targets, torch.zeros_like(targets), random)
    assert not torch.equal(overshot, targets)
    signal = make_scheduler().alphas_cumprod[torch.arange(100, 900, 100)].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * overshot + (1 - signal).sqrt() * torch.randn(8, 12, 4, 4)
    answer = (signal.sqrt() * noisy - targets) / (1 - signal).sqrt()
    assert float(x0_loss(answer, noisy, targets, signal)) == pytest.approx(0, abs=1e-9)
    assert float(x0_loss(answer + 0.1, noisy, targets, signal)) > 0.005


class Perfect(torch.nn.Module):
    """Predicts v so that every estimate is equal to the given latents."""

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.targets = targets

    def forward(self, noisy: Tensor, timesteps: Tensor, instruction_vectors: Tensor) -> SimpleNamespace:
        signal = make_scheduler().alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return SimpleNamespace(sample=(signal.sqrt() * noisy - self.targets[: len(noisy)]) / (1 - signal).sqrt())


def test_half_of_the_samples_come_from_what_the_unet_made_of_a_noisier_timestep() -> None:
    targets, noised, noise = torch.randn(3, 8, 12, 4, 4)
    timesteps, instruction_vectors = torch.arange(100, 900, 100), torch.zeros(8, 4)
    estimates, remaining = step_from_noisier(
        Perfect(targets), timesteps, noised, noise, [], instruction_vectors, np.random.default_rng(0)
    )
    assert torch.allclose(estimates[:4], targets[:4], atol=0.05)
    assert torch.equal(estimates[4:], noised[4:])
    assert torch.equal(remaining[4:], noise[4:])
    # For the samples from another picture, what exceeds the estimate counts as noise.
    assert float((remaining - noise)[:4].abs().mean()) > 0.05
    estimates, remaining = step_from_noisier(
        Perfect(targets), timesteps, targets, noise, [], instruction_vectors, np.random.default_rng(0)
    )
    assert torch.allclose(remaining[:4], noise[:4], atol=0.05)


def test_training_that_was_interrupted_goes_on_to_the_same_weights(work: Path, tmp_path: Path) -> None:
    results = []
    for runs in ((4,), (2, 2)):
        directory = tmp_path / str(len(runs))
        directory.mkdir()
        for name in ("tokenizer", "words.pt", "latents"):
            (directory / name).symlink_to(work / name)
        for steps in runs:
            launch(train, 1, directory, Budget(5, steps=steps), 2, 1e-3, MINUSCULE, 4)
        results.append(torch.load(directory / "unet.pt", weights_only=True))
    straight, resumed = results
    assert straight["step"] == resumed["step"] == 4
    for key in ("masters", "average"):
        assert all(torch.equal(one, other) for one, other in zip(straight[key], resumed[key], strict=True))


def test_the_stock_pipeline_loads_what_is_assembled_edits_any_size_and_can_be_measured(
    work: Path, tmp_path: Path, photo: Picture
) -> None:
    launch(train, 1, work, Budget(5, steps=1), 2, 1e-3, MINUSCULE, 4)
    assemble(work, tmp_path / "model")
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.new("RGB", (96, 64), "teal")
    edited = pipeline("make it night", image=picture, num_inference_steps=1, output_type="pil").images[0]
    assert edited.size == (96, 64)
    counted = tally(pipeline, {"sample": photo}, {"night": "make it night", "ink": "ink it"}, Settings(1, 2.5))
    assert [len(hits) for hits in (*counted.pixels.values(), *counted.perceptual.values())] == [1] * 4
    assert len(counted.psnr) == 2
    assert 0 < megabytes(tmp_path / "model") < 15
    assert not [path for path in (tmp_path / "model").rglob("*.json") if str(work) in path.read_text()]


def test_a_unet_is_trained_for_the_timesteps_that_its_sampler_visits(work: Path, tmp_path: Path) -> None:
    assert few_steps.timesteps_of(4) == [999, 749, 499, 249]
    for part in work.iterdir():
        (tmp_path / part.name).symlink_to(part)
    launch(train, 1, work, Budget(5, steps=1), 2, 1e-3, MINUSCULE, 4)
    launch(few_steps.train, 1, tmp_path, Budget(5, steps=2), 2, 1e-3, 4)
    assemble(tmp_path, tmp_path / "model", f"unet{few_steps.SUFFIX}")
    before, after = (UNet2DConditionModel.from_pretrained(place / "unet") for place in (work, tmp_path / "model"))
    assert not torch.equal(before.conv_out.weight, after.conv_out.weight.float())
    assert torch.equal(before.add_embedding.proj.weight.half(), after.add_embedding.proj.weight.half())


def test_what_draws_emoji_is_trained_and_loaded_by_the_stock_pipeline(work: Path, tmp_path: Path) -> None:
    for name in ("tokenizer", "autoencoder"):
        (tmp_path / name).symlink_to(work / name)
    np.save(tmp_path / "patches-128.npy", load_patches(work, 128)[::50])
    pictures = np.zeros((2, emoji.SIDE, emoji.SIDE, 4), np.uint8)
    pictures[:, 32:96, 32:96] = [[[[200, 30, 30, 255]]], [[[30, 30, 200, 255]]]]
    np.savez(tmp_path / "emoji.npz", names=np.array(["red apple", "whale"]), pixels=pictures)
    redraw.compute_latents(tmp_path)
    teach(tmp_path, redraw.language_of(["red apple", "whale"]), Budget(1, steps=2))
    launch(redraw.train, 1, tmp_path, Budget(5, steps=2), 4, 1e-3, MINUSCULE)
    assemble(tmp_path, tmp_path / "model", "unet-redraw", StableDiffusionImg2ImgPipeline)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline("a whale", image=Image.new("RGB", (192, 128), "teal"), strength=0.5, num_inference_steps=2)
    assert drawn.images[0].size == (192, 128)


def test_the_judge_tells_emoji_apart_and_holds_what_is_drawn_against_them(work: Path, tmp_path: Path) -> None:
    (tmp_path / "patches-128.npy").symlink_to(work / "patches-128.npy")
    names = ["red apple", "whale", "lemon", "frog", "ghost", "grapes", "bear"]
    colours = ["red", "blue", "yellow", "green", "white", "purple", "brown"]
    pictures = np.zeros((len(names), emoji.SIDE, emoji.SIDE, 4), np.uint8)
    for number, colour in enumerate(colours):
        side = slice(16 + 4 * number, 112 - 4 * number)
        pictures[number, side, side] = (*ImageColor.getrgb(colour), 255)
    np.savez(tmp_path / "emoji.npz", names=np.array(names), pixels=pictures)
    judge = classifier.train(tmp_path, Budget(2, steps=60))
    random = np.random.default_rng(1)
    drawings = np.stack([redraw.draw_on_white(picture, (128, 128), random) for picture in pictures])
    predictions = judge(classifier.shrink(drawings)).argmax(1).tolist()
    assert sum(one == other for one, other in enumerate(predictions)) >= 5
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(BUNDLED / "tiny-redraw", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    figures = classifier.judge(pipeline, judge, tmp_path, 1, classifier.GUIDANCE)
    likenesses = [figure.value for figure in figures if figure.unit == "dB"]
    assert likenesses == sorted(likenesses, reverse=True)


@pytest.mark.parametrize("shape", [(128, 128), (128, 192), (192, 128)])
def test_an_emoji_is_drawn_in_the_middle_of_every_ground(shape: tuple[int, int]) -> None:
    red = np.zeros((emoji.SIDE, emoji.SIDE, 4), np.uint8)
    red[32:96, 32:96] = [255, 0, 0, 255]
    photos = np.full((1, 128, 128, 3), 40, np.uint8)
    random = np.random.default_rng(0)
    pictures = [redraw.draw_on_white(red, shape, random)]
    pictures += [redraw.draw_on_ground(red, photos, shape, random) for _ in range(20)]
    for drawn in pictures:
        assert drawn.shape == (*shape, 3)
        assert drawn[shape[0] // 2, shape[1] // 2].tolist() == [255, 0, 0]
    corners = [tuple(drawn[0, 0].tolist()) for drawn in pictures]
    assert corners[0] == (255, 255, 255)
    assert 2 < corners.count((40, 40, 40)) < 20


def test_other_names_mean_emoji_and_both_are_said() -> None:
    assert set(emoji.CALLED) <= set(emoji.listed_names())
    called = [other for names in emoji.CALLED.values() for other in names]
    assert len(called) == len(set(called))
    language = redraw.language_of(["red apple", "whale"])
    random = np.random.default_rng(0)
    sentences = " | ".join(language.random_wording(0, random) for _ in range(50))
    assert "red apple" in sentences
    assert "apple" in sentences.replace("red apple", "")
    assert "whale" not in sentences


def test_a_card_is_held_against_what_was_measured() -> None:
    measured = [Figure("nearest", 95.2, 1.0, "%"), Figure("PSNR", 24.1, 0.3, "dB")]
    card = "\n".join(map(str, measured))
    assert compare(card, measured) == []
    assert compare(card.replace("95.2", "96.9"), measured) == ["“nearest” is 95.2; the card says 96.9 ± 1.0."]
    assert compare(card, [measured[0], Figure("PSNR", float("nan"), 0.3, "dB")]) != []
    assert compare(str(measured[0]), measured) == ["The card has no row for “PSNR”; paste the printed one."]
    assert compare(card + "\n| speed | 1.0 ± 0.5 s |", measured) == [
        "The card's “speed” is not measured; remove the row."
    ]


def test_the_text_encoder_learns_to_tell_instructions_apart(work: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").symlink_to(work / "tokenizer")
    understood = teach(tmp_path, INSTRUCTIONS, Budget(2, steps=60))
    assert 3 / len(EDITS) < understood <= 1
    first = torch.load(tmp_path / "words.pt", weights_only=True)
    assert set(first) == {"text_encoder", "embedding", "prototypes", "tokens", "steps"}
    teach(tmp_path, INSTRUCTIONS, Budget(2, steps=2))
    second = torch.load(tmp_path / "words.pt", weights_only=True)
    assert torch.equal(first["prototypes"], second["prototypes"])
    assert all(torch.equal(first["embedding"][name], second["embedding"][name]) for name in first["embedding"])
    assert not all(torch.equal(weight, first["text_encoder"][name]) for name, weight in second["text_encoder"].items())


def test_a_model_is_taught_new_words_and_keeps_what_its_edits_are_to_the_unet(work: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").symlink_to(work / "tokenizer")
    model = shutil.copytree(BUNDLED / "tiny-edit", tmp_path / "model")
    before = prototypes_of(load(model), INSTRUCTIONS, 10)
    begin_from_model(model, tmp_path, INSTRUCTIONS)
    teach(tmp_path, INSTRUCTIONS, Budget(2, steps=20))
    weights = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    write_to_model(model, tmp_path, INSTRUCTIONS)
    after = prototypes_of(load(model), INSTRUCTIONS, 10)
    nearest = functional.cosine_similarity(after[:, None], before[None], dim=2).argmax(1)
    assert (nearest == torch.arange(len(before))).float().mean() > 0.9
    for name, weight in load_file(model / "unet" / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(weight, weights[name])
    assert len(StableDiffusionInstructPix2PixPipeline.from_pretrained(model).tokenizer) == len(
        CLIPTokenizer.from_pretrained(work / "tokenizer")
    )
