"""A full database to look at and to measure: believable generations of invented people, over two years."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, models, transaction
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from accounts.models import User
from generation.images import storage
from generation.images.uploads import THUMBNAIL_SIDE, encode_input, thumbnail
from generation.library import files, search
from generation.models import DiffusionModel, GeneratedImage, Generation, Lora, LoraUse, State
from generation.models.review import DECIDED, Reason, Review, ReviewDecision
from generation.parameters import MESSAGES, ErrorCode, ImageToImageParameters
from generation.recipes import plan

NAME = "demo-"
SPAN = timedelta(days=730)
SHARE_OF_FIRST = 0.1
BATCH = 5000
FOLDER = "demo/"

EDITS = [
    "make it night", "turn it into a pencil sketch", "make it look like winter", "as an oil painting", "make it sunset",
    "a soft watercolour", "pixel art", "turn it into a cartoon", "an old photograph", "make it rain", "as a woodcut",
    "add fog over the water", "make the trees autumnal", "golden hour, please", "as a mosaic", "invert the colours",
]  # fmt: skip
SUBJECTS = [
    "a lighthouse on a cliff", "an old harbour", "two cats on a sofa", "a mountain village", "a bicycle by a wall",
    "a market in the morning", "the portrait of an old man", "a red umbrella", "a bowl of lemons", "a railway bridge",
    "a garden in June", "a dog in the snow", "a street in Lisbon", "a glass house", "an empty theatre", "a paper boat",
]  # fmt: skip
STYLES = [
    "in ink", "as a linocut", "in the style of a travel poster", "in pastel", "as a Polaroid", "cinematic",
    "long exposure", "macro photo", "isometric", "charcoal on paper", "as stained glass", "low poly", "gouache",
]  # fmt: skip
DETAILS = [
    "soft light", "high contrast", "35mm", "film grain", "muted colours", "bright colours", "very detailed", "minimal",
    "fog", "dramatic sky", "reflections", "backlight", "from above", "wide angle", "calm", "bokeh", "rain", "dusk",
]  # fmt: skip
UNWANTED = ["blurry", "people", "text", "watermark", "extra fingers", "low quality", "frame", "oversaturated"]
TITLES = ["For the hall", "Christmas card", "Keep", "Cover, second try", "For Grandma", "Poster"]
NOTES = ["print on matte paper", "ask before posting", "best of the series so far", "too dark for print"]
REVIEWERS = ["demo-reviewer-1", "demo-reviewer-2", "demo-reviewer-3"]
LORAS = ["demo/ink-wash", "demo/claymation"]
STATES = {State.SUCCEEDED: 93, State.FAILED: 4, State.CANCELED: 3}
ERRORS = {State.FAILED: ErrorCode.OUT_OF_MEMORY, State.CANCELED: ErrorCode.CANCELED}
PHASES = {"loading": 0.0, "encoding": 0.06, "denoising": 1.9, "decoding": 0.29, "safety": 0.04, "storing": 0.05}
LOOKS: list[Callable[[Image.Image], Image.Image]] = [
    lambda picture: picture.filter(ImageFilter.GaussianBlur(3)),
    lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    ImageOps.invert,
    ImageOps.mirror,
    lambda picture: ImageOps.posterize(picture, 2),
    lambda picture: ImageEnhance.Brightness(picture).enhance(0.45),
    lambda picture: ImageOps.colorize(ImageOps.grayscale(picture), "#241708", "#f7e7c6"),
    lambda picture: ImageEnhance.Color(picture).enhance(2.5),
    lambda picture: ImageOps.colorize(ImageOps.grayscale(picture), "#0b1e4b", "#ffffff"),
    lambda picture: picture.filter(ImageFilter.CONTOUR),
    lambda picture: ImageOps.solarize(picture, 140),
    lambda picture: picture.filter(ImageFilter.ModeFilter(9)),
]


class Command(BaseCommand):
    help = (
        "Fill the database with invented generations of the users demo-1, demo-2 and so on, for looking and measuring."
        " A tenth of them is demo-1's. They share a few pictures, which stay whatever is deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--generations", type=int, default=2000, metavar="N")
        parser.add_argument("--users", type=int, default=5, metavar="N")
        parser.add_argument("--password", help="of all of them; without one nobody can sign in as them")
        parser.add_argument("--beside-real-users", action="store_true", help="even where other people have accounts")

    def handle(self, *, generations: int, users: int, password: str | None, **options: Any) -> None:
        if generations < 1 or users < 1:
            raise CommandError("Ask for at least one generation and one user.")
        if not options["beside_real_users"] and User.objects.exclude(username__startswith=NAME).exists():
            raise CommandError(
                "There are real users in this database. Use an empty one, by another DATA_DIR or DATABASE_URL,"
                " or say --beside-real-users."
            )
        people = _people(users, password)
        made = _Maker(people)
        for done, count in _steps(generations):
            with transaction.atomic():
                made.add(done, count, generations)
            self.stdout.write(f"\r{done + count:,} of {generations:,}", ending="")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        self.stdout.write("")


def _steps(whole: int) -> Iterator[tuple[int, int]]:
    """How many are done before each batch, and how many are in it."""
    for done in range(0, whole, BATCH):
        yield done, min(BATCH, whole - done)


def _people(count: int, password: str | None) -> list[User]:
    # Made once: a hash takes as long as a thousand generations.
    hashed = make_password(password)
    people = [
        User.objects.update_or_create(username=f"{NAME}{number}", defaults={"password": hashed})[0]
        for number in range(1, count + 1)
    ]
    return people


class _Maker:
    """Rows in batches, in the order of their times, written as the database wants them with what seldom differs done once."""

    def __init__(self, people: Sequence[User]) -> None:
        self._chance = random.Random(7)  # noqa: S311  nothing here is a secret
        self._people = [person.pk for person in people]
        self._models = list(DiffusionModel.objects.order_by("-is_default", "pk"))
        self._loras = [Lora.objects.get_or_create(pk=name)[0].pk for name in LORAS]
        self._pictures = _pictures()
        # Its own, so that the generations are the same whatever is decided about them.
        self._verdicts = random.Random(8)  # noqa: S311  nothing here is a secret
        self._drafts: dict[tuple[str, str, str], Generation] = {}
        self._end = datetime.now(UTC)

    def add(self, done: int, count: int, whole: int) -> None:
        """The next `count` of `whole`, of which `done` are there; more and more a day as time goes on."""
        rows = [self._generation(done + number, whole) for number in range(count)]
        # First, since the flag of a generation follows them.
        images = [image for row in rows for image in self._images(row)]
        _insert(Generation, [vars(row) for row in rows])
        _insert(GeneratedImage, images)
        _insert(ReviewDecision, [self._decision(image) for image in images if image["review"] in DECIDED])
        uses = [
            {"generation_id": row.pk, "user_id": row.user_id, "lora_id": self._chance.choice(self._loras)}
            for row in rows
            if self._chance.random() < 0.05
        ]
        _insert(LoraUse, uses)
        search.index_many(rows)

    def _generation(self, number: int, whole: int) -> Generation:
        chance = self._chance
        created = self._end - SPAN * (1 - ((number + chance.random()) / whole) ** 0.7)
        model = self._models[0] if chance.random() < 0.6 else chance.choice(self._models)
        (state,) = chance.choices(list(STATES), list(STATES.values()))
        count = chance.choices((1, 2, 4), (80, 8, 12))[0]
        row = self._draft(model, state, count, self._look())
        row.id = _id(created, chance)
        row.created, row.started = created, created + timedelta(seconds=0.02)
        row.finished = created + timedelta(seconds=2.42)
        first = chance.random() < SHARE_OF_FIRST or not self._people[1:]
        row.user_id = self._people[0] if first else chance.choice(self._people[1:])
        row.prompt, unwanted = self._prompt()
        seed = chance.choice((7, 42, 1207)) if chance.random() < 0.05 else chance.randrange(2**31)
        row.parameters = row.parameters | {"prompt": row.prompt, "negative_prompt": unwanted, "seed": seed}
        seeds = [seed + index for index in range(count)]
        row.recipe = row.recipe | {"prompt": row.prompt, "negative_prompt": unwanted, "seeds": seeds}
        row.title = chance.choice(TITLES) if chance.random() < 0.03 else ""
        row.note = chance.choice(NOTES) if chance.random() < 0.01 else ""
        row.is_favourite = chance.random() < 0.02
        row.is_flagged = state == State.SUCCEEDED and chance.random() < 0.01
        row.trashed = self._end if chance.random() < 0.002 else None
        return row

    def _look(self) -> str:
        return self._chance.choice(list(self._pictures))

    def _draft(self, model: DiffusionModel, state: State, count: int, look: str) -> Generation:
        """A generation of this kind, to be made one's own; planned once."""
        key = (model.pk, state, str(count))
        if key not in self._drafts:
            width, height = self._pictures[look].size
            parameters = ImageToImageParameters(
                prompt="-", num_inference_steps=20, seed=0, num_images_per_prompt=count, model_id=model.pk
            )
            recipe, warnings = plan(parameters, model.reference(), [], (width, height), model.limits())
            code = ERRORS.get(state)
            message = MESSAGES.get(code, "Out of memory error. Try reducing input image resolution.") if code else ""
            self._drafts[key] = Generation(
                model=model,
                pool=model.pool,
                state=state,
                cost=count * 5.0,
                parameters=parameters.model_dump(mode="json"),
                recipe=recipe.model_dump(mode="json"),
                warnings=warnings,
                input_sha256="0" * 64,
                input_format="JPEG",
                input_width=width,
                input_height=height,
                phases=PHASES if state == State.SUCCEEDED else {},
                attempt=1,
                worker="demo-1",
                error_code=code or "",
                error_message=message,
            )
            vars(self._drafts[key]).update(input=f"{FOLDER}input.webp", input_thumbnail=f"{FOLDER}input-small.webp")
        row = Generation.__new__(Generation)
        # Its constructor would take most of the time.
        vars(row).update(vars(self._drafts[key]))
        return row

    def _prompt(self) -> tuple[str, str]:
        chance = self._chance
        is_edit = chance.random() < 0.5
        words = [chance.choice(EDITS) if is_edit else f"{chance.choice(SUBJECTS)} {chance.choice(STYLES)}"]
        words += chance.sample(DETAILS, chance.randrange(4))
        unwanted = chance.sample(UNWANTED, 2) if chance.random() < 0.3 else []
        return ", ".join(words), ", ".join(unwanted)

    def _images(self, row: Generation) -> Iterator[dict[str, Any]]:
        if row.state != State.SUCCEEDED:
            return
        for index, seed in enumerate(row.recipe["seeds"]):
            look = self._look()
            reviewed = self._reviewed(row.finished or row.created, row.is_flagged and index == 0)
            row.is_flagged = reviewed["nsfw"] or (row.is_flagged and index > 0)
            yield {
                "generation_id": row.id,
                "index": index,
                "seed": seed,
                "file": f"{FOLDER}{look}.webp",
                "thumbnail": f"{FOLDER}{look}-small.webp",
                "width": self._pictures[look].width,
                "height": self._pictures[look].height,
                **reviewed,
            }

    def _reviewed(self, made: datetime, flagged: bool) -> dict[str, Any]:
        """What a checker that is often right said of a picture, and reviewers who are a day behind."""
        chance = self._verdicts
        is_sample = not flagged and chance.random() < settings.REVIEW_SAMPLE
        score = 0.8 + 0.2 * chance.betavariate(2, 1) if flagged else 0.8 * chance.betavariate(1, 9)
        review = Review.WAITING if flagged or is_sample else Review.NONE
        if review and made < self._end - timedelta(days=1) and chance.random() < 0.9:
            is_bad = chance.random() < (5 * (score - 0.75) if flagged else score / 4)
            review = Review.CONFIRMED if is_bad else Review.SAFE
        return {
            "nsfw": review == Review.CONFIRMED or (flagged and review == Review.WAITING),
            "nsfw_score": score,
            "checker": "opennsfw",
            "threshold": 0.8,
            "review": str(review),
            "is_sample": is_sample,
            "quarantined": made if review == Review.CONFIRMED else None,
        }

    def _decision(self, image: dict[str, Any]) -> dict[str, Any]:
        """Of no picture, as if that were deleted: its key is not known."""
        chance, is_confirmed = self._verdicts, image["review"] == Review.CONFIRMED
        return {
            **{name: image[name] for name in ("index", "threshold", "checker", "is_sample")},
            "when": min(
                self._end, datetime.fromtimestamp((image["generation_id"].int >> 80) / 1000, UTC) + timedelta(days=1)
            ),
            "generation": image["generation_id"],
            "reviewer_name": chance.choice(REVIEWERS),
            "before": str(Review.WAITING),
            "after": image["review"],
            "reason": chance.choice(Reason.values) if is_confirmed else "",
            "seconds": chance.lognormvariate(1.2, 0.5),
            "score": image["nsfw_score"],
        }


def _id(created: datetime, chance: random.Random) -> UUID:
    """A UUID of version 7 of that time."""
    milliseconds = int(created.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62))


def _pictures() -> dict[str, Image.Image]:
    """The stored pictures by name: the sample in many looks, whole and cut."""
    with Image.open(settings.BASE_DIR / "dreamsite" / "static" / "sample.jpg") as file:
        whole = file.convert("RGB")
    whole.thumbnail((512, 512))
    side = min(whole.size)
    parts = [whole, whole.crop((0, 0, side, side)), whole.crop((whole.width - side * 3 // 4, 0, whole.width, side))]
    pictures = {f"look-{number}": look(parts[number % 3]) for number, look in enumerate(LOOKS)}
    for name, picture in {"input": whole, **pictures}.items():
        for suffix, content in (("", encode_input(picture)), ("-small", thumbnail(picture, THUMBNAIL_SIDE))):
            stored = f"{FOLDER}{name}{suffix}.webp"
            files.share([stored])
            default_storage.delete(stored)
            storage.store(stored, content)
    return pictures


def _insert(model: type[models.Model], rows: Sequence[dict[str, Any]]) -> None:
    """Rows by the names of their columns' attributes; what is not named gets the field's default.

    `bulk_create` asks each field to prepare each value, and on SQLite writes some twenty rows of so many columns at a time.
    """
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.BigAutoField)]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    values = ", ".join(["%s"] * len(fields))
    defaults = {field.attname: None if field.primary_key else field.get_default() for field in fields}
    prepared = [[_prepared(row.get(name, default)) for name, default in defaults.items()] for row in rows]
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({values})"  # noqa: S608  names of our tables
    with connection.cursor() as cursor:
        cursor.executemany(sql, prepared)


def _prepared(value: Any) -> Any:
    """The value as both databases take it."""
    match value:
        case None | str() | int() | float():
            return value
        case UUID():
            return value.hex
        case datetime():
            return connection.ops.adapt_datetimefield_value(value)
        case _:
            return json.dumps(value)
