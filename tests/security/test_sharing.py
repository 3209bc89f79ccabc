"""What strangers see ends with the account, the hold or the decision that should end it, at every address of a link."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User
from generation.images import storage
from generation.library import albums, deletion, sharing
from generation.library.sharing import Choices
from generation.maintenance import account_deletion
from generation.models import Generation
from generation.models.review import Review
from generation.moderation import review, review_queue, suspension
from tests.support.generations import make_generation

pytestmark = pytest.mark.usefixtures("redis")

Step = Callable[[Generation, User], object]

ENDS: dict[str, Step] = {
    "suspended": lambda row, staff: suspension.suspend(row.user, staff),
    "leaving": lambda row, staff: account_deletion.request(row.user),
    "trashed": lambda row, staff: deletion.trash(Generation.objects.all()),
    "held": lambda row, staff: Generation.objects.update(legal_hold=True),
    "escalated": lambda row, staff: review.decide(row.images.get(), staff, Review.ESCALATED),
    "confirmed": lambda row, staff: review.decide(row.images.get(), staff, Review.CONFIRMED, "nudity"),
    "deleted": lambda row, staff: deletion.delete(row),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("cover", ["owner", "blur", "block"])
def test_nothing_of_it_is_shown_to_strangers(
    settings: object, client: Client, alice: User, charlie: User, end: str, cover: str
) -> None:
    settings.CONFIRMED_PICTURES = cover  # type: ignore[attr-defined]
    generation = make_generation(alice, prompt="zebra")
    link = f"/s/{sharing.share(generation, 0, None, Choices(True, True, True)).code}"
    album = albums.create(alice, "best")
    albums.add(album, [generation.pk])
    shared_album = f"/s/{sharing.share_album(album, None, True).code}"
    entry = f"{shared_album}/{album.entries.get().pk}/0"
    pictures = [f"{link}/picture", f"{link}/input", f"{link}/preview.jpg", f"{shared_album}/preview.jpg", entry]
    pictures.append(f"{entry}/thumbnail")
    assert [client.get(address).status_code for address in [link, shared_album, *pictures]] == [200] * 8
    ENDS[end](generation, charlie)
    assert [client.get(address).status_code for address in [link, *pictures]] == [404] * 7
    page = client.get(shared_album)
    assert page.status_code == (404 if end in ("suspended", "leaving") else 200)
    assert "zebra" not in page.content.decode()
    # The next picture, made from it, does not show it as its input.
    if end not in ("suspended", "leaving", "deleted"):
        later = make_generation(alice)
        Generation.objects.filter(pk=later.pk).update(source=generation.images.get())
        compared = f"/s/{sharing.share(later, 0, None, Choices(with_input=True)).code}"
        assert client.get(compared).status_code == 200
        assert client.get(f"{compared}/input").status_code == 404


@pytest.mark.parametrize("end", ["suspended", "leaving"])
def test_signed_addresses_end_with_the_account(client: Client, alice: User, bob: User, charlie: User, end: str) -> None:
    generation, other = make_generation(alice), make_generation(bob)
    image = generation.images.get()
    addresses = [file.url for file in (image.file, image.thumbnail, generation.input, generation.input_thumbnail)]
    review.decide(image, charlie, Review.ESCALATED)
    review.decide(image, charlie, Review.CONFIRMED, "nudity")
    image.refresh_from_db()
    addresses = [*addresses[2:], image.file.url, image.thumbnail.url]
    assert [client.get(address).status_code for address in addresses] == [200] * 4
    ENDS[end](generation, charlie)
    assert [client.get(address).status_code for address in addresses] == [404] * 4
    assert client.get(other.images.get().file.url).status_code == 200
    # Staff look at what a suspended user made.
    client.force_login(charlie)
    assert client.get(addresses[0]).getvalue() == storage.read(str(generation.input))


def test_what_was_not_checked_is_veiled_until_a_reviewer_found_it_safe(
    client: Client, alice: User, charlie: User
) -> None:
    generation = make_generation(alice, safety_check=False)
    image = generation.images.get()
    assert not image.is_checked
    album = albums.create(alice, "best")
    albums.add(album, [generation.pk])
    shared_album = f"/s/{sharing.share_album(album, None, True).code}"
    link = f"/s/{sharing.share(generation, 0, None).code}"
    preview = client.get(f"{link}/preview.jpg")
    assert "not checked" in client.get(link).content.decode()
    assert "There are no pictures here" in client.get(shared_album).content.decode()
    image.refresh_from_db()
    assert review_queue.queue_of(image) == "unchecked"
    assert [each.pk for each in review_queue.waiting(review_queue.ReviewFilter(why="unchecked"))] == [image.pk]
    review.decide(image, charlie, Review.SAFE)
    assert "not checked" not in client.get(link).content.decode()
    sharp = client.get(f"{link}/preview.jpg", headers={"If-None-Match": preview["ETag"]})
    assert sharp.status_code == 200
    assert sharp.content != preview.content
    assert "There are no pictures here" not in client.get(shared_album).content.decode()
