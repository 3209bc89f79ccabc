"""Search: matches, order, privacy, and arbitrary input."""

import io
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from generation.filters import HistoryFilters
from generation.images.inputs import Inputs
from generation.images.uploads import read_upload
from generation.jobs import submission
from generation.library import (
    deletion,
    search,
    search_plan,
)
from generation.maintenance import retention
from generation.models import Generation, Lora, LoraUse, State
from generation.parameters import ImageToImageParameters
from tests.support.generations import make_generation
from tests.support.pictures import photo


def search_ids(user: User, text: str = "", *, size: int = 50, before: UUID | None = None, **filters: Any) -> list[UUID]:
    rows = Generation.objects.owned_by(user)
    history_filters = HistoryFilters(q=text, **filters)
    return [generation.pk for generation in search.page(rows, user.pk, history_filters, size, before)]


def test_it_works(alice: User) -> None:
    night, snow = make_generation(alice, prompt="make it night"), make_generation(alice, prompt="Make it SNOW")
    assert search_ids(alice, "night") == [night.pk]
    assert search_ids(alice, "make snow") == [snow.pk]
    assert search_ids(alice, "MAKE it") == [snow.pk, night.pk]
    assert search_ids(alice, "night snow") == []


def test_all_texts_of_a_generation_are_searched(alice: User) -> None:
    generation = make_generation(alice, prompt="a harbour", negative_prompt="people")
    generation.title, generation.note = "Ålesund", "for the kitchen wall"
    generation.save()
    search.index(generation)
    for text in ("harbour", "people", "ålesund", "kitchen harbour"):
        assert search_ids(alice, text) == [generation.pk]
    generation.title = ""
    search.index(generation)
    assert search_ids(alice, "ålesund") == []


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a lighthouse at dusk", "light"),
        ("a lighthouse at dusk", "dusk lig"),
        ("black-and-white photo", "black-and-white"),
        ("black and white photo", "black-and-wh"),
        ("café au lait", "cafe"),
        ("cafe", "CAFÉ"),
        ("Straße im Regen", "STRASSE"),
        ("夜景の写真", "夜景"),
        ("夜景の写真", "写真"),
        ("가을 나무", "나무"),
        ("f/1.8, 35mm", "35mm f/1.8"),
        ("it's night!", '"it\'s" (night)'),
        ("x" * 300, "x" * 100),
        ("OR AND NOT NEAR", "and OR not"),
    ],
)
def test_words_are_found_as_people_type_them(alice: User, prompt: str, text: str) -> None:
    generation = make_generation(alice, prompt=prompt)
    assert search_ids(alice, text) == [generation.pk]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a lighthouse", "house"),
        ("a lighthouse at dusk", "light dusk"),
        ("a lighthouse", "light "),
        ("white and black", "black-and-white"),
        ("a night", "n"),
        ("a night", "!!!"),
        ("景夜", "夜景"),
    ],
)
def test_other_words_are_not(alice: User, prompt: str, text: str) -> None:
    make_generation(alice, prompt=prompt)
    assert search_ids(alice, text) == []


def test_nobody_finds_the_words_of_others(alice: User, bob: User) -> None:
    generation = make_generation(alice, prompt="make it night")
    for text in ("night", f"{alice.pk}@night", f"{alice.pk}@", '" OR "night', "*"):
        assert search_ids(bob, text) == []
    assert search_ids(alice, "night") == [generation.pk]


def test_pages_are_newest_first(alice: User) -> None:
    now = timezone.now()
    ids = [make_generation(alice, created=now - timedelta(days=days)).pk for days in range(5)]
    assert search_ids(alice, "night") == ids
    assert search_ids(alice, "night", size=2) == ids[:3]
    assert search_ids(alice, "night", before=ids[2]) == ids[3:]
    day = timezone.localdate() - timedelta(days=2)
    assert search_ids(alice, "night", until=day) == ids[2:]
    assert search_ids(alice, "night", since=day, until=day) == ids[2:3]


def test_search_and_filters_combine(alice: User, bob: User) -> None:
    lora = Lora.objects.create(id="someone/ink", enabled=True)
    plain = make_generation(alice, seed=5)
    marked = make_generation(alice, flagged=[0], seed=7)
    Generation.objects.filter(pk=marked.pk).update(is_favourite=True)
    LoraUse.objects.create(generation=marked, lora=lora, user=alice)
    failed = make_generation(alice, State.FAILED, seed=7)
    make_generation(bob, seed=7, flagged=[0])
    for text in ("", "night"):
        assert search_ids(alice, text, state=("failed",)) == [failed.pk]
        assert search_ids(alice, text, state=("failed", "succeeded")) == [failed.pk, marked.pk, plain.pk]
        only: list[dict[str, Any]] = [{"favourite": "true"}, {"flagged": "true"}, {"lora": lora.pk}]
        for filters in only:
            assert search_ids(alice, text, **filters) == [marked.pk]
        assert search_ids(alice, text, seed=7) == [failed.pk, marked.pk]
        assert search_ids(alice, text, favourite="true", seed=5) == []
        assert search_ids(alice, text, model_id="nobody/nothing") == []


def test_trashed_generations_are_hidden_and_deleted_ones_leave_the_index(alice: User) -> None:
    generation, other = make_generation(alice), make_generation(alice)
    deletion.trash(Generation.objects.filter(pk=generation.pk))
    assert search_ids(alice, "night") == [other.pk]
    deletion.restore(Generation.objects.filter(pk=generation.pk))
    assert search_ids(alice, "night") == [other.pk, generation.pk]
    deletion.delete(generation)
    assert search_ids(alice, "night") == [other.pk]
    (left,) = words_of(generation)
    assert set(left[0].split()) == {f"{alice.pk}@", f"{alice.pk}@@1207", "@@1207"}
    assert "night" in words_of(other)[0][0]
    Generation.objects.filter(pk=generation.pk).update(created=timezone.now() - timedelta(days=2))
    assert retention._remove_row(Generation.objects.get(pk=generation.pk))
    assert words_of(generation) == []


def test_staff_find_the_prompts_of_all_users_but_no_notes(alice: User, bob: User) -> None:
    def search_all(text: str) -> list[UUID]:
        return [row.pk for row in search.search_all(Generation.objects.all(), text)]

    first = make_generation(alice, prompt="bob and a lighthouse", seed=5)
    second = make_generation(bob, prompt="a lighthouse of 1200", negative_prompt="fog")
    second.title = second.note = "private"
    second.save()
    search.index(second)
    assert search_all("light") == search_all("a LIGHTHOUSE") == [second.pk, first.pk]
    assert search_all("fog") == search_all("1207 lighthouse") == [second.pk]
    assert search_all("5") == [first.pk]
    assert search_all("120") == []
    assert search_all("bob") == [second.pk, first.pk]
    assert search_all("Bob fog") == [second.pk]
    assert search_all("private") == search_all("!") == search_all("") == []
    bob.username = "b.o@b"
    bob.save()
    assert search_all("b.o@b") == [second.pk]
    deletion.delete(second)
    assert search_all("b.o@b") == search_all("1207") == [second.pk]
    assert search_all("fog") == []


def test_many_generations_are_indexed_together(alice: User) -> None:
    first, second, third = (
        make_generation(alice, State.FAILED, prompt=f"{text} words") for text in ("one", "two", "no")
    )
    deletion.delete(third)
    # Two with colliding rowids.
    twin = Generation.objects.get(pk=second.pk)
    twin.pk = UUID(int=second.pk.int ^ 1)
    twin.save(force_insert=True)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM generation_words")
    search.index_many(Generation.objects.order_by("pk"))
    assert search_ids(alice, "words") == [*sorted([second.pk, twin.pk], reverse=True), first.pk]
    assert [row.pk for row in search.search_all(Generation.objects.all(), "one")] == [first.pk]
    assert len(search.search_all(Generation.objects.all(), "alice")) == 4


@pytest.mark.usefixtures("redis")
def test_submissions_are_indexed_and_dry_runs_are_not(alices: Any) -> None:
    inputs = Inputs(read_upload(io.BytesIO(photo()), max_pixels=1_000_000))
    for prompt in ("submitted words", "estimated words"):
        draft = submission.build(submission.Request(alices.user, alices, ImageToImageParameters(prompt=prompt), inputs))
        (submission.submit(draft, inputs) if prompt.startswith("submitted") else submission.estimate(draft))
    assert len(search_ids(alices.user, "words")) == 1
    assert len(search_ids(alices.user, "submitted")) == 1


def test_rowid_collisions_are_resolved(alice: User) -> None:
    first = make_generation(alice, prompt="first words")
    twin = make_generation(alice, prompt="second words")
    Generation.objects.filter(pk=twin.pk).delete()
    search.unindex([twin.pk])
    twin.pk = UUID(int=first.pk.int ^ 1)
    twin.save(force_insert=True)
    search.index(twin)
    search.index(twin)
    assert search_ids(alice, "first") == [first.pk]
    assert search_ids(alice, "second") == [twin.pk]
    search.unindex([first.pk])
    assert search_ids(alice, "words") == [twin.pk]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=st.text(max_size=60).filter(lambda text: "\0" not in text))
def test_any_input_is_a_valid_query_and_a_prompt_finds_itself(alice: User, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    generation = Generation(user=alice, prompt=text, parameters={}, recipe={"seeds": []})
    search.index(generation)
    query = search_plan.to_query(search._query(alice.pk, text))
    with connection.cursor() as cursor:
        if query:
            cursor.execute("SELECT generation_id FROM generation_words WHERE generation_words MATCH %s", [query])
            assert (generation.pk.hex,) in cursor.fetchall()


def test_rowids_are_in_the_order_of_ids() -> None:
    now = timezone.now()
    ids = [Generation(created=now).pk for _ in range(200)]
    places = [search_plan.rowid_of(pk) for pk in sorted(ids)]
    assert places == sorted(places)
    assert 0 < places[0] < 2**63


def words_of(generation: Generation) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT words FROM generation_words WHERE generation_id = %s", [generation.pk.hex])
        return list(cursor.fetchall())
