"""The fixed vocabularies of the bundled models."""

import pytest

from generation.repositories.vocabulary import knows_none


@pytest.mark.parametrize(
    ("model_id", "prompt", "is_unknown"),
    [
        ("dreamsite/tiny-edit", "Make it NIGHT, please", False),
        ("dreamsite/tiny-edit", "black and white", False),
        ("dreamsite/tiny-edit", "a bowl of soup", True),
        ("dreamsite/tiny-edit", "42 !", True),
        ("dreamsite/tiny-redraw", "two tigers", False),
        ("dreamsite/tiny-redraw", "make it night", True),
        ("some/other", "a bowl of soup", False),
        ("dreamsite/unknown", "a bowl of soup", False),
    ],
)
def test_a_prompt_without_known_words_is_noticed(model_id: str, prompt: str, is_unknown: bool) -> None:
    assert knows_none(model_id, prompt) == is_unknown
