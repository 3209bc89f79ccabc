"""Recipes: effective values, sizes and warnings."""

import math

import pytest
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.families import FAMILY_TRAITS, Family
from generation.family_traits import Traits
from generation.inpainting import Box, Inpainting
from generation.parameters import ImageToImageParameters, InvalidField
from generation.recipes import NO_LIMITS, Limits, LoraReference, ModelReference, Recipe, plan, refit, traits_of
from generation.sizes import fit

TINY = ModelReference(id="dreamsite/tiny-edit", revision="", family=Family.INSTRUCT_PIX2PIX)
REDRAW = ModelReference(id="dreamsite/tiny-redraw", revision="", family=Family.STABLE_DIFFUSION)
PIX2PIX = ModelReference(id="someone/pix2pix", revision="", family=Family.INSTRUCT_PIX2PIX)
DIFFUSION = ModelReference(id="someone/diffusion", revision="", family=Family.STABLE_DIFFUSION)
TURBO = ModelReference(id="stabilityai/sd-turbo", revision="", family=Family.TURBO)
SDXL_TURBO = ModelReference(id="stabilityai/sdxl-turbo", revision="", family=Family.SDXL_TURBO)
FLUX = ModelReference(id="someone/flux", revision="", family=Family.FLUX)
LCM = ModelReference(id="someone/lcm", revision="", family=Family.LCM)
LIGHTNING = ModelReference(id="ByteDance/SDXL-Lightning-4step", revision="", family=Family.LIGHTNING)


SWIRL = LoraReference(id="someone/swirl", revision="", weight_name="", weight=1)
DOTS = LoraReference(id="someone/dots", revision="", weight_name="", weight=0.5)


def make(
    model: ModelReference,
    size: tuple[int, int] = (512, 512),
    limits: Limits | None = None,
    open_box: Box | None = None,
    references: int = 0,
    **fields: str,
) -> tuple[Recipe, list[str]]:
    parameters = ImageToImageParameters.from_form({"prompt": "make it night", **fields})
    return plan(parameters, model, [], size, limits or NO_LIMITS, open_box, references)


def test_the_api_guidance_is_mapped_onto_the_bundled_models_scale() -> None:
    assert make(REDRAW)[0].guidance_scale == pytest.approx(1.91)
    assert make(REDRAW, guidance_scale="1")[0].guidance_scale == 1
    assert make(DIFFUSION, guidance_scale="7.5")[0].guidance_scale == 7.5


def test_the_defaults_of_the_contract_are_few_steps_of_one_pass_on_the_model_that_is_distilled() -> None:
    recipe, warnings = make(TINY)
    assert (recipe.num_inference_steps, recipe.is_guided, warnings) == (2, False, [])
    recipe, warnings = make(TINY, num_inference_steps="100", guidance_scale="7.5", image_guidance_scale="1.5")
    assert (recipe.num_inference_steps, recipe.is_guided) == (2, False)
    assert warnings == [
        "guidance_scale has no effect on dreamsite/tiny-edit; it always runs with 1.",
        "image_guidance_scale has no effect on dreamsite/tiny-edit; it always runs with 1.",
        "num_inference_steps 100 was lowered to 2: dreamsite/tiny-edit has no use for more.",
    ]
    assert make(TINY, num_inference_steps="1")[0].num_inference_steps == 1


def test_steps_that_are_lowered_exceed_no_limit_of_staff() -> None:
    assert make(TINY, limits=Limits(num_inference_steps=20), num_inference_steps="100")[0].num_inference_steps == 2
    with pytest.raises(InvalidField, match="from 1 to 1 "):
        make(TINY, limits=Limits(num_inference_steps=1), num_inference_steps="100")


def test_a_parameter_that_was_sent_and_has_no_effect_is_named() -> None:
    assert make(TINY)[1] == []
    assert make(TINY, strength="0.5")[1] == ["strength has no effect on dreamsite/tiny-edit."]
    assert make(DIFFUSION, image_guidance_scale="2")[1] == ["image_guidance_scale has no effect on someone/diffusion."]
    assert make(TURBO, guidance_scale="3")[1] == [
        "guidance_scale has no effect on stabilityai/sd-turbo; it always runs with 0."
    ]


@pytest.mark.parametrize("model", [TURBO, SDXL_TURBO], ids=str)
def test_turbo_runs_without_guidance_and_keeps_one_step(model: ModelReference) -> None:
    recipe, warnings = make(model, num_inference_steps="2", strength="0.3")
    assert (recipe.guidance_scale, recipe.strength) == (0, 0.5)
    assert warnings == ["strength 0.3 was raised to 0.5, so that one step of 2 remains."]


@pytest.mark.parametrize(("suffix", "steps"), [("", 8), ("-2step", 2), ("-4step", 4), ("-8step", 8)])
def test_lightning_runs_its_own_number_of_steps(suffix: str, steps: int) -> None:
    model = LIGHTNING.model_copy(update={"id": f"ByteDance/SDXL-Lightning{suffix}"})
    recipe, warnings = make(model, (1024, 1024), num_inference_steps="30")
    assert (recipe.num_inference_steps, recipe.guidance_scale) == (steps, 0)
    assert warnings == [f"num_inference_steps has no effect on {model.id}; it always runs with {steps}."]


def test_strength_and_steps_must_leave_a_step() -> None:
    assert make(DIFFUSION, strength="0.1", num_inference_steps="10")[0].strength == 0.1
    with pytest.raises(InvalidField, match=r"from 0\.25 to 1") as caught:
        make(DIFFUSION, strength="0.1", num_inference_steps="4")
    assert caught.value.item["loc"] == ["body", "strength"]
    with pytest.raises(InvalidField, match=r"from 0\.3334 to 1, or more steps"):
        make(DIFFUSION, strength="0.1", num_inference_steps="3")
    assert make(DIFFUSION, strength="0.3334", num_inference_steps="3")[0].executed_steps == 1
    with pytest.raises(
        InvalidField, match=r"strength 0 leaves none of 4 steps for someone/flux: use a strength above 0$"
    ):
        make(FLUX, strength="0", num_inference_steps="4")
    assert make(FLUX, strength="0.001", num_inference_steps="4")[0].executed_steps == 1
    assert make(TINY, strength="0.1", num_inference_steps="2")[0].num_inference_steps == 2


@given(steps=st.integers(1, 200), strength=st.floats(0, 1))
def test_turbo_always_has_a_step(steps: int, strength: float) -> None:
    recipe, _ = make(TURBO, num_inference_steps=str(steps), strength=str(strength))
    assert int(steps * recipe.strength) >= 1


def test_lcm_runs_no_more_steps_than_strength_leaves_of_its_training() -> None:
    """Its scheduler fails with more. The contract's default is 100 steps."""
    recipe, warnings = make(LCM)
    assert (recipe.num_inference_steps, recipe.executed_steps, recipe.strength) == (40, 40, 0.8)
    assert warnings == [
        "num_inference_steps 100 was lowered to 40, the most that someone/lcm works with at strength 0.8."
    ]
    recipe, warnings = make(LCM, strength="0", num_inference_steps="4")
    assert (recipe.num_inference_steps, recipe.strength) == (1, 0.02)
    assert warnings[0] == "strength 0 was raised to 0.02, the least that someone/lcm works with."
    assert make(LCM, num_inference_steps="4")[1] == []


@given(steps=st.integers(1, 200), strength=st.floats(0, 1))
def test_lcm_always_has_a_schedule(steps: int, strength: float) -> None:
    recipe, _ = make(LCM, num_inference_steps=str(steps), strength=str(strength))
    scheduler = LCMScheduler()
    scheduler.set_timesteps(recipe.num_inference_steps, strength=recipe.strength)
    assert len(scheduler.timesteps) == recipe.executed_steps <= steps


def test_image_i_has_seed_plus_i() -> None:
    assert make(TINY, seed="7", num_images_per_prompt="3")[0].seeds == (7, 8, 9)
    assert make(TINY, seed="0")[0].seeds == (0,)


def test_an_absent_seed_is_a_random_one_of_32_bits() -> None:
    seeds = {make(TINY, num_images_per_prompt="10")[0].seeds for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**32 for run in seeds for seed in run)


def test_seeds_with_ignored_high_bits_are_warned_about() -> None:
    recipe, warnings = make(TINY, seed=str(2**32 + 7))
    assert recipe.seeds == (2**32 + 7,)
    assert warnings == ["seed 4294967303 gives the same pixels as seed 7."]
    assert make(TINY, seed=str(2**32 - 1))[1] == []


def test_limits_of_staff_are_named_with_the_allowed_values() -> None:
    limits = Limits(num_inference_steps=20, num_images_per_prompt=2, side=256)
    with pytest.raises(InvalidField, match="from 1 to 20"):
        make(REDRAW, limits=limits, num_inference_steps="21")
    with pytest.raises(InvalidField, match="from 1 to 2 "):
        make(TINY, limits=limits, num_inference_steps="2", num_images_per_prompt="3")
    recipe, warnings = make(TINY, (512, 256), limits, num_inference_steps="2")
    assert (recipe.width, recipe.height) == (256, 128)
    assert "512 x 256 pixels was fitted to 256 x 128" in warnings[0]


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((256, 256), (256, 256)),
        ((501, 333), (501, 333)),
        ((4000, 3000), (512, 384)),
        ((3000, 3000), (500, 500)),
        ((64, 64), (64, 64)),
        ((10_000, 10), (512, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_large_pictures_are_fitted_keeping_the_aspect_ratio(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit(size, Traits(min_side=128, max_side=512, area=500 * 500)) == fitted


@pytest.mark.parametrize(
    ("size", "drawn", "canvas"),
    [
        ((256, 256), (256, 256), (256, 256)),
        ((257, 391), (257, 391), (272, 400)),
        ((64, 64), (128, 128), (128, 128)),
        ((64, 32), (256, 128), (256, 128)),
        ((300, 10), (512, 17), (512, 128)),
        ((10_000, 10), (512, 1), (512, 128)),
        ((1, 1), (128, 128), (128, 128)),
    ],
)
def test_small_pictures_are_drawn_as_large_as_the_model_can(
    size: tuple[int, int], drawn: tuple[int, int], canvas: tuple[int, int]
) -> None:
    recipe, warnings = make(TINY, size)
    assert (recipe.drawn_size, recipe.canvas_size) == (drawn, canvas)
    assert (recipe.width, recipe.height) == fit(
        size, FAMILY_TRAITS[Family.INSTRUCT_PIX2PIX].model_copy(update={"max_side": 512})
    )
    warning = (
        f"The picture was drawn at {drawn[0]} x {drawn[1]} pixels and scaled back to {recipe.width} x {recipe.height}, "
        "since dreamsite/tiny-edit needs 128 pixels a side."
    )
    assert (warning in warnings) == (drawn != (recipe.width, recipe.height))


def test_a_part_is_drawn_at_the_full_size_of_the_model_and_put_back_into_the_upload() -> None:
    recipe, warnings = make(TINY, (4000, 3000), open_box=(1000, 2900, 1100, 2950), mask_padding="70")
    assert recipe.inpainting == Inpainting(size=(4000, 3000), box=(930, 2830, 1170, 3000), feather=16)
    assert recipe.result_size == (4000, 3000)
    assert (recipe.width, recipe.height) == (240, 170)
    assert max(recipe.drawn_size) == 512
    assert warnings == []
    whole, _ = make(TINY, (4000, 3000), open_box=(1000, 2900, 1100, 2950), mask_feather="3")
    assert whole.inpainting == Inpainting(size=(4000, 3000), box=(0, 0, 4000, 3000), feather=3)
    assert whole.drawn_size == (512, 384)
    assert whole.batch_key != make(TINY, (4000, 3000))[0].batch_key
    assert make(TINY, mask_padding="3")[1] == ["mask_padding has no effect without a mask."]


def test_a_model_that_needs_a_mask_and_one_that_reads_one_picture_say_so() -> None:
    with pytest.raises(InvalidField, match="send a mask that marks it") as caught:
        make(ModelReference(id="someone/fill", revision="", family=Family.FLUX_FILL))
    assert caught.value.item["loc"] == ["body", "mask"]
    with pytest.raises(InvalidField, match="reads one picture: send no further ones"):
        make(TINY, references=1)
    klein = ModelReference(id="someone/klein", revision="", family=Family.FLUX2_KLEIN)
    assert make(klein, references=2)[0].cost(1) == pytest.approx(2 * make(klein)[0].cost(1))
    with pytest.raises(InvalidField, match="at most 3 further pictures"):
        make(klein, references=4)


@pytest.mark.parametrize("family", Family)
@settings(max_examples=20)
@given(size=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)), side=st.none() | st.integers(64, 4096))
def test_every_size_fits_and_is_charged_as_it_is_made(family: Family, size: tuple[int, int], side: int | None) -> None:
    model = ModelReference(id="someone/model", revision="", family=family)
    traits = traits_of(model)
    open_box = (0, 0, *size) if traits.needs_mask else None
    recipe, _ = make(model, size, Limits(side=side), open_box, num_inference_steps="20")
    longest = max(recipe.width, recipe.height)
    assert longest <= min(traits.max_side, side or traits.max_side, max(size))
    assert recipe.width * recipe.height <= traits.area
    parameters = ImageToImageParameters.from_form({"prompt": "make it night"})
    assert refit(recipe, parameters, size, Limits(side=side), open_box)[0] == recipe
    assert all(side % traits.side_multiple == 0 for side in recipe.canvas_size)
    made = math.prod(recipe.canvas_size)
    assert recipe.cost(2.0) == pytest.approx(2 * recipe.executed_steps * made / 1e6)
    assert all(drawn <= made for drawn, made in zip(recipe.drawn_size, recipe.canvas_size, strict=True))
    if traits.sizes:
        assert recipe.canvas_size in traits.sizes
    elif traits.has_fixed_area:
        assert made >= 0.99 * traits.area
    elif side is None:
        assert min(recipe.canvas_size) >= min(traits.min_side, max(recipe.drawn_size))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (TINY, {"prompt": "a ship", "seeds": (1, 2), "safety_check": False}),
        (TINY, {"guidance_scale": 9, "image_guidance_scale": 1}),
        (TINY, {"guidance_scale": 1, "image_guidance_scale": 3}),
        (TINY, {"negative_prompt": "snow"}),
        (TINY, {"strength": 0.3}),
        (DIFFUSION, {"prompt": "a ship", "seeds": (1, 2), "safety_check": False}),
        (DIFFUSION, {"guidance_scale": 9, "image_guidance_scale": 3}),
        (TURBO, {"negative_prompt": "snow"}),
        (LIGHTNING, {"prompt": "a ship", "negative_prompt": "snow"}),
    ],
    ids=str,
)
def test_what_each_image_of_a_call_may_have_of_its_own_is_not_in_the_batch_key(
    model: ModelReference, changes: dict[str, object]
) -> None:
    recipe = make(model)[0]
    assert recipe.batch_key == recipe.model_copy(update=changes).batch_key


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (TINY, {"model": TINY.model_copy(update={"id": "someone/tiny-edit"})}),
        (TINY, {"model": TINY.model_copy(update={"revision": "0" * 40})}),
        (TINY, {"model": TINY.model_copy(update={"family": Family.STABLE_DIFFUSION})}),
        (TINY, {"loras": (SWIRL,)}),
        (TINY, {"width": 128}),
        (TINY, {"height": 128}),
        (TINY, {"num_inference_steps": 7}),
        (PIX2PIX, {"guidance_scale": 1, "image_guidance_scale": 1}),
        (DIFFUSION, {"guidance_scale": 1, "image_guidance_scale": 3}),
        (DIFFUSION, {"negative_prompt": "snow"}),
        (DIFFUSION, {"strength": 0.3}),
        (TURBO, {"strength": 0.5}),
        (LIGHTNING, {"strength": 0.5}),
    ],
    ids=str,
)
def test_what_all_images_of_a_call_share_is_in_the_batch_key(model: ModelReference, changes: dict[str, object]) -> None:
    recipe = make(model)[0]
    assert recipe.batch_key != recipe.model_copy(update=changes).batch_key


def test_the_batch_key_has_the_loras_with_their_weights_in_any_order() -> None:
    recipe = make(TINY)[0]
    both, other_way, stronger = (
        recipe.model_copy(update={"loras": loras}).batch_key
        for loras in ((SWIRL, DOTS), (DOTS, SWIRL), (SWIRL, DOTS.model_copy(update={"weight": 0.6})))
    )
    assert both == other_way
    assert both != stronger


def test_the_batch_key_is_the_same_in_every_process_and_after_storing() -> None:
    assert make(DIFFUSION)[0].batch_key == "cabbb554efabc306"
    assert make(DIFFUSION)[0].batch_key == Recipe.model_validate(make(DIFFUSION)[0].model_dump(mode="json")).batch_key
