"""Parsing of the form fields as in Livepeer's API, and the messages of 422."""

from typing import Any

import pytest
from pydantic import ValidationError

from generation.parameters import (
    MAX_SEED,
    ErrorCode,
    ImageToImageParameters,
    InvalidField,
    OutputFormat,
    RequestRefused,
    error_items,
    parse_loras,
)


def parse(**fields: str) -> ImageToImageParameters:
    return ImageToImageParameters.from_form({"prompt": "make it night", **fields})


def items(**fields: str) -> list[dict[str, Any]]:
    with pytest.raises(ValidationError) as caught:
        parse(**fields)
    return error_items(caught.value)


def test_absent_fields_have_the_defaults_of_livepeers_api() -> None:
    assert parse().model_dump() == {
        "prompt": "make it night",
        "model_id": "",
        "loras": "",
        "strength": 0.8,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "negative_prompt": "",
        "safety_check": True,
        "seed": None,
        "num_inference_steps": 100,
        "num_images_per_prompt": 1,
        "priority": "normal",
        "image_url": "",
        "output_format": OutputFormat.PNG,
        "output_quality": 90,
        "response_format": None,
        "dry_run": False,
        "mask_invert": False,
        "mask_feather": None,
        "mask_padding": None,
    }


def test_an_empty_field_counts_as_absent() -> None:
    empty = {name: "" for name in ImageToImageParameters.model_fields if name != "prompt"}
    assert parse(**empty) == parse()
    assert items(prompt="") == [{"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}]


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "on", "yes", "t", "y"])
def test_words_for_true(text: str) -> None:
    assert parse(safety_check=text).safety_check is True


@pytest.mark.parametrize("text", ["false", "False", "0", "off", "no", "f", "n"])
def test_words_for_false(text: str) -> None:
    assert parse(safety_check=text).safety_check is False


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("strength", "1e-3", 0.001),
        ("strength", " 0.5 ", 0.5),
        ("guidance_scale", "0", 0.0),
        ("num_inference_steps", "2.0", 2),
        ("seed", "0", 0),
        ("seed", str(MAX_SEED), MAX_SEED),
    ],
)
def test_numbers_are_parsed_like_in_python(field: str, text: str, value: float) -> None:
    assert getattr(parse(**{field: text}), field) == value


@pytest.mark.parametrize(
    ("field", "text", "type_"),
    [
        ("safety_check", " true", "bool_parsing"),
        ("safety_check", "maybe", "bool_parsing"),
        ("strength", "0,5", "float_parsing"),
        ("strength", "abc", "float_parsing"),
        ("num_inference_steps", "2.5", "int_parsing"),
        ("num_inference_steps", "1e3", "int_parsing"),
        ("seed", "9" * 5000, "int_parsing_size"),
        ("prompt", "x" * 4001, "string_too_long"),
        ("prompt", "a\0b", "value_error"),
        ("negative_prompt", "\ud800", "string_unicode"),
    ],
)
def test_parsing_errors_have_the_types_of_livepeers_api(field: str, text: str, type_: str) -> None:
    (item,) = items(**{field: text})
    assert (item["loc"], item["type"]) == (["body", field], type_)
    assert set(item) == {"loc", "msg", "type"}


@pytest.mark.parametrize(
    ("field", "texts", "range_"),
    [
        ("strength", ["-0.1", "1.1", "nan", "inf", "-inf"], "from 0 to 1"),
        ("guidance_scale", ["-1", "51", "nan", "inf"], "from 0 to 50"),
        ("image_guidance_scale", ["-1", "nan"], "from 0 to 50"),
        ("seed", ["-2", str(2**63), str(2**64), "9" * 5000], f"from -1 to {MAX_SEED}"),
        ("num_inference_steps", ["0", "-1", "201"], "from 1 to 200"),
        ("num_images_per_prompt", ["0", "-1", "11", "2147483648"], "from 1 to 10"),
    ],
)
def test_range_errors_name_the_allowed_range(field: str, texts: list[str], range_: str) -> None:
    for text in texts:
        assert items(**{field: text})[0]["msg"] == f"Input should be a number {range_}"


@pytest.mark.parametrize("text", ["-1", " -1 ", "-1.0"])
def test_seed_minus_one_is_random(text: str) -> None:
    assert parse(seed=text).seed is None
    assert parse(seed=text, num_images_per_prompt="10").model_dump() == parse(num_images_per_prompt="10").model_dump()


def test_the_last_seed_must_be_in_range() -> None:
    assert parse(seed=str(MAX_SEED - 3), num_images_per_prompt="4").seed == MAX_SEED - 3
    with pytest.raises(InvalidField) as caught:
        parse(seed=str(MAX_SEED - 2), num_images_per_prompt="4")
    assert caught.value.item["loc"] == ["body", "seed"]
    assert str(MAX_SEED - 3) in caught.value.item["msg"]


def test_all_wrong_fields_are_listed_without_their_input() -> None:
    errors = items(prompt="", strength="secret", seed="-2")
    assert {item["loc"][1] for item in errors} == {"prompt", "strength", "seed"}
    assert "secret" not in str(errors)


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_no_loras(text: str) -> None:
    assert parse_loras(text) == {}


def test_lora_weights_may_be_numbers_strings_and_true() -> None:
    assert parse_loras('{"a/b": 0.5, "a/c": "1", "a/d": true}') == {"a/b": 0.5, "a/c": 1.0, "a/d": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "1",
        '"x"',
        "{",
        "[" * 100_000,
        '{"a/b": -1}',
        '{"a/b": NaN}',
        '{"a/b": Infinity}',
        '{"a/b": null}',
        '{"a/b": {}}',
        '{"a/b": 11}',
        '{"\\ud800/x": 1}',
        '{"a":1,"b":1,"c":1,"d":1,"e":1}',
    ],
)
def test_invalid_loras_are_refused(text: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_loras(text)
    assert caught.value.code is ErrorCode.INVALID_LORAS
