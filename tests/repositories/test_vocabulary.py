"""The fixed vocabularies of the bundled models."""

from pathlib import Path

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


@pytest.mark.parametrize(
    ("prompt", "is_unknown"),
    [
        ("mach ein O\u0308lgemälde daraus", False),
        ("鉛筆画にしてください", False),
        ("讓照片變成夜晚", False),
        ("公園で遊ぶ犬", True),
        ("das Gemälde", True),
    ],
)
def test_a_word_is_found_where_words_have_no_spaces(
    prompt: str, is_unknown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "vocabulary.txt").write_text("ölgemälde\n鉛筆\n夜\n", encoding="utf-8")
    monkeypatch.setattr("generation.repositories.vocabulary.BUNDLED", tmp_path)
    assert knows_none("dreamsite/languages", prompt) == is_unknown
