"""The wordings of the edits: what is said and never said in each language, and the words that name an edit."""

from pathlib import Path

import numpy as np
import pytest

from generation.repositories.files import BUNDLED
from generation.repositories.vocabulary import knows_none
from training import instructions, unknown_words
from training.edits import EDITS
from training.vocabulary import edit_words, emoji_words


@pytest.mark.parametrize("language", instructions.LANGUAGES)
def test_every_edit_has_many_wordings(language: str) -> None:
    random = np.random.default_rng(0)
    for name in EDITS:
        wordings = {instructions.instruction(name, random, language).lower().strip(" .!") for _ in range(200)}
        assert len(wordings) > 150


def test_no_held_out_wording_can_be_generated() -> None:
    held_out: list[str] = []
    for language in instructions.LANGUAGES:
        assert set(instructions.HELD_OUT[language]) == set(EDITS)
        for wordings in instructions.HELD_OUT[language].values():
            assert len(wordings) == 2
            held_out += wordings
        held_out += [*instructions.DEVELOPMENT[language].values(), *instructions.NEUTRAL_DEVELOPMENT[language]]
        held_out += instructions.NEUTRAL_HELD_OUT[language]
    assert len(set(held_out)) == len(held_out)
    assert not [wording for wording in held_out if instructions.can_be_said(wording)]
    said = ["Could you show this in the fog?", "a lovely cat in the park", "mach das bild heller, bitte", "変更なし。"]
    assert all(map(instructions.can_be_said, said))


def test_words_from_anywhere_name_no_edit() -> None:
    names = {word for word in instructions.naming_words() if word.isascii()}
    assert {"purple", "winter"} <= names & set(unknown_words.passwords())
    random = np.random.default_rng(0)
    for language in instructions.LANGUAGES:
        found = {word for _ in range(500) for word in instructions.unrelated_words(language, random).split()}
        assert len(found) > 300
        assert found.isdisjoint(names)


def test_a_language_is_written_in_its_spellings() -> None:
    random = np.random.default_rng(0)
    for edit, language, spellings in (
        ("green", "de", ("grün", "gruen", "grun")),
        ("night", "zh", ("月光下", "變成")),
        ("thermal", "es", ("térmica", "termica")),
    ):
        written = " ".join(instructions.instruction(edit, random, language) for _ in range(300)).lower()
        assert all(spelling in written for spelling in spellings)


def test_what_is_misspelt_differs_in_one_word() -> None:
    random = np.random.default_rng(0)
    words = ["turn", "it", "into", "a", "pencil", "sketch"]
    for _ in range(200):
        written = instructions.misspelt(" ".join(words), random).split()
        differing = [(one, other) for one, other in zip(words, written, strict=True) if one != other]
        assert len(differing) <= 1
        assert all(one[0] == other[0] for one, other in differing)


def test_the_vocabulary_of_emoji_is_that_of_their_names() -> None:
    assert (BUNDLED / "tiny-redraw" / "vocabulary.txt").read_text(encoding="utf-8").split() == emoji_words()


def test_the_vocabulary_of_edits_is_from_their_wordings() -> None:
    assert (BUNDLED / "tiny-edit" / "vocabulary.txt").read_text(encoding="utf-8").split() == edit_words()


@pytest.mark.parametrize("language", instructions.LANGUAGES)
def test_the_words_that_name_edits_are_in_their_wordings(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / language).mkdir()
    (tmp_path / language / "vocabulary.txt").write_text("\n".join(instructions.naming_words()), encoding="utf-8")
    monkeypatch.setattr("generation.repositories.vocabulary.BUNDLED", tmp_path)
    wordings = [wording for pair in instructions.HELD_OUT[language].values() for wording in pair]
    unnamed = [wording for wording in wordings if knows_none(f"dreamsite/{language}", wording)]
    neutral = instructions.NEUTRAL_HELD_OUT[language]
    warned = [wording for wording in neutral if knows_none(f"dreamsite/{language}", wording)]
    assert len(unnamed) < 0.2 * len(wordings)
    assert len(warned) > 0.5 * len(neutral)
