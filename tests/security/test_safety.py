"""What the safety check can be kept from seeing: nothing where operators require it, and nothing that reviewers have seen."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from generation.jobs import queue
from generation.models import GeneratedImage, Generation, State
from generation.models.review import Review
from generation.moderation import review
from tests.support.generations import make_generation
from tests.support.pictures import photo

FIELDS = {"prompt": "make it night", "num_inference_steps": "2", "safety_check": "false"}

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


def again(user: User, mask_sha256: str = "", **fields: Any) -> GeneratedImage:
    """Make a picture that the checker does not see, as a worker ends it."""
    generation = make_generation(user, State.RUNNING, safety_check=False, **fields)
    # The same upload, whatever the seed.
    generation.input_sha256 = f"{1207:064x}"
    generation.mask_sha256 = mask_sha256
    seed = generation.get_recipe().seeds[-1]
    image = GeneratedImage(generation=generation, index=0, seed=seed, width=1, height=1)
    queue.flag_confirmed(generation, [image])
    assert queue.finish(generation, [image], [], {}, 100)
    return image


def test_a_check_that_is_required_cannot_be_left_out(
    client: Client, alices_token: str, settings: Any, alice: User
) -> None:
    settings.SAFETY_CHECK = "required"
    headers = {"Authorization": f"Bearer {alices_token}", "Prefer": "respond-async"}
    answer = client.post(
        "/image-to-image", {**FIELDS, "image": SimpleUploadedFile("a.png", photo(128, 128))}, headers=headers
    )
    assert answer.status_code == 202, answer.content
    assert answer.json()["warnings"] == ["safety_check has no effect: this service checks all pictures."]
    generation = Generation.objects.get()
    assert generation.get_recipe().safety_check
    # What was asked for is kept: a repetition is checked only where that is required.
    assert not generation.get_parameters().safety_check
    parameter = client.get("/models", headers=headers).json()["models"][0]["parameters"]["safety_check"]
    assert (parameter["has_effect"], parameter["forced"]) == (False, True)
    client.force_login(alice)
    assert "Check results for nudity" not in client.get("/").content.decode()


def test_where_it_is_optional_it_is_the_clients_choice(client: Client, alices_token: str, alice: User) -> None:
    headers = {"Authorization": f"Bearer {alices_token}", "Prefer": "respond-async"}
    answer = client.post(
        "/image-to-image", {**FIELDS, "image": SimpleUploadedFile("a.png", photo(128, 128))}, headers=headers
    )
    assert answer.json()["warnings"] == []
    assert not Generation.objects.get().get_recipe().safety_check
    client.force_login(alice)
    assert "Check results for nudity" in client.get("/").content.decode()


def test_what_reviewers_confirmed_is_flagged_when_it_is_made_again(alice: User, bob: User, charlie: User) -> None:
    confirmed = make_generation(alice, sampled=[0]).images.get()
    other = make_generation(alice, sampled=[0], seed=8).images.get()
    assert not again(bob).nsfw
    review.decide(confirmed, charlie, Review.CONFIRMED, "nudity")
    review.decide(other, charlie, Review.SAFE)
    for image in (
        again(bob),
        # A field without effect on this model.
        again(bob, strength=0.3),
        # The second of two pictures.
        again(bob, seed=1206, num_images_per_prompt=2),
    ):
        assert (image.nsfw, image.review) == (True, Review.WAITING)
        assert Generation.objects.get(pk=image.generation_id).is_flagged
    assert not again(bob, seed=8).nsfw
    assert not again(bob, prompt="make it day").nsfw
    assert not again(bob, num_inference_steps=1).nsfw
    assert not again(bob, mask_sha256="5" * 64).nsfw
    # The decision outlives the picture, but not its being undone.
    review.undo(charlie)
    review.undo(charlie)
    assert not again(bob).nsfw


def test_a_decision_outlives_the_picture(alice: User, bob: User, charlie: User) -> None:
    confirmed = make_generation(alice, sampled=[0])
    review.decide(confirmed.images.get(), charlie, Review.CONFIRMED, "nudity")
    confirmed.delete()
    assert again(bob).nsfw
