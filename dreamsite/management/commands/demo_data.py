"""`manage.py demo_data`: fill a database with plausible generations of invented users over two years."""

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
from generation.images import samples, storage
from generation.images.input_files import encode_lossless
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.library import albums, files, search, sharing
from generation.models import Album, DiffusionModel, GeneratedImage, Generation, Lora, LoraUse, State
from generation.models.review import DECIDED, Reason, Review, ReviewDecision
from generation.parameters import MESSAGES, ErrorCode, ImageToImageParameters
from generation.recipes import plan

USER_PREFIX = "demo-"
ALBUM, ALBUM_SIZE = "Best of", 12
SPAN = timedelta(days=730)
FIRST_USER_SHARE = 0.1
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
NEGATIVE_PROMPTS = ["blurry", "people", "text", "watermark", "extra fingers", "low quality", "frame", "oversaturated"]
TITLES = ["For the hall", "Christmas card", "Keep", "Cover, second try", "For Grandma", "Poster"]
NOTES = ["print on matte paper", "ask before posting", "best of the series so far", "too dark for print"]
REVIEWERS = ["demo-reviewer-1", "demo-reviewer-2", "demo-reviewer-3"]
LORAS = ["demo/ink-wash", "demo/claymation"]
STATES = {State.SUCCEEDED: 93, State.FAILED: 4, State.CANCELED: 3}
ERRORS = {State.FAILED: ErrorCode.OUT_OF_MEMORY, State.CANCELED: ErrorCode.CANCELED}
PHASES = {"loading": 0.0, "encoding": 0.06, "denoising": 1.9, "decoding": 0.29, "safety": 0.04, "storing": 0.05}
EFFECTS: list[Callable[[Image.Image], Image.Image]] = [
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
        "Fill the database with invented generations of the users demo-1, demo-2 and so on, for demonstrations and"
        " measurements. A tenth of them belongs to demo-1, who has a shared album."
        " They share a few pictures, which are never deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--generations", type=int, default=2000, metavar="N")
        parser.add_argument("--users", type=int, default=5, metavar="N")
        parser.add_argument("--password", help="password of all these users; without it nobody can sign in as them")
        parser.add_argument(
            "--beside-real-users", action="store_true", help="add them even if the database has other users"
        )

    def handle(self, *, generations: int, users: int, password: str | None, **options: Any) -> None:
        if generations < 1 or users < 1:
            raise CommandError("Create at least one generation and one user.")
        if not options["beside_real_users"] and User.objects.exclude(username__startswith=USER_PREFIX).exists():
            raise CommandError(
                "There are real users in this database. Use an empty one, with another DATA_DIR or DATABASE_URL, or add"
                " --beside-real-users."
            )
        generator = _Generator(_create_users(users, password))
        for done, count in _batches(generations):
            with transaction.atomic():
                generator.add(done, count, generations)
            self.stdout.write(f"\r{done + count:,} of {generations:,}", ending="")
        share_favourites(User.objects.get(username=f"{USER_PREFIX}1"))
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        self.stdout.write("")


def share_favourites(user: User) -> None:
    """Put the user's favourites, or else the newest pictures, into an album, and share it once."""
    album, is_new = Album.objects.get_or_create(user=user, name=ALBUM)
    made = Generation.objects.owned_by(user).filter(state=State.SUCCEEDED)
    newest = made.order_by("-is_favourite", "-pk").values_list("pk", flat=True)
    albums.add(album, list(newest[:ALBUM_SIZE]))
    if is_new:
        sharing.share_album(album, None, with_recipe=True)


def _batches(total: int) -> Iterator[tuple[int, int]]:
    """Yield for each batch the number of rows before it and in it."""
    for done in range(0, total, BATCH):
        yield done, min(BATCH, total - done)


def _create_users(count: int, password: str | None) -> list[User]:
    # Hashed once, since that takes as long as a thousand generations.
    password_hash = make_password(password)
    return [
        User.objects.update_or_create(username=f"{USER_PREFIX}{number}", defaults={"password": password_hash})[0]
        for number in range(1, count + 1)
    ]


class _Generator:
    """Inserts generations in batches, oldest first. Planning and other slow steps are done once for each kind of row."""

    def __init__(self, users: Sequence[User]) -> None:
        self._rng = random.Random(7)  # noqa: S311  nothing here is a secret
        self._user_ids = [user.pk for user in users]
        self._models = list(DiffusionModel.objects.order_by("-is_default", "pk"))
        self._loras = [Lora.objects.get_or_create(pk=name)[0].pk for name in LORAS]
        self._pictures = _pictures()
        # Separate, so that changes to reviews do not change the generations.
        self._review_rng = random.Random(8)  # noqa: S311  nothing here is a secret
        self._templates: dict[tuple[str, str, str], Generation] = {}
        self._end = datetime.now(UTC)

    def add(self, done: int, count: int, total: int) -> None:
        """Insert `count` generations after the first `done` of `total`. Their number per day grows with time."""
        rows = [self._generation(done + number, total) for number in range(count)]
        # Before the generations are inserted, since this sets their flags.
        images = [image for row in rows for image in self._images(row)]
        _insert(Generation, [vars(row) for row in rows])
        _insert(GeneratedImage, images)
        _insert(ReviewDecision, [self._decision(image) for image in images if image["review"] in DECIDED])
        uses = [
            {"generation_id": row.pk, "user_id": row.user_id, "lora_id": self._rng.choice(self._loras)}
            for row in rows
            if self._rng.random() < 0.05
        ]
        _insert(LoraUse, uses)
        search.index_many(rows)

    def _generation(self, number: int, total: int) -> Generation:
        rng = self._rng
        created = self._end - SPAN * (1 - ((number + rng.random()) / total) ** 0.7)
        model = self._models[0] if rng.random() < 0.6 else rng.choice(self._models)
        (state,) = rng.choices(list(STATES), list(STATES.values()))
        count = rng.choices((1, 2, 4), (80, 8, 12))[0]
        row = self._from_template(model, state, count, self._random_picture())
        row.id = _uuid7(created, rng)
        row.created, row.started = created, created + timedelta(seconds=0.02)
        row.finished = created + timedelta(seconds=2.42)
        is_first_user = rng.random() < FIRST_USER_SHARE or not self._user_ids[1:]
        row.user_id = self._user_ids[0] if is_first_user else rng.choice(self._user_ids[1:])
        row.prompt, negative_prompt = self._prompt()
        seed = rng.choice((7, 42, 1207)) if rng.random() < 0.05 else rng.randrange(2**31)
        row.parameters = row.parameters | {"prompt": row.prompt, "negative_prompt": negative_prompt, "seed": seed}
        seeds = [seed + index for index in range(count)]
        row.recipe = row.recipe | {"prompt": row.prompt, "negative_prompt": negative_prompt, "seeds": seeds}
        row.title = rng.choice(TITLES) if rng.random() < 0.03 else ""
        row.note = rng.choice(NOTES) if rng.random() < 0.01 else ""
        row.is_favourite = rng.random() < 0.02
        row.is_flagged = state == State.SUCCEEDED and rng.random() < 0.01
        row.trashed = self._end if rng.random() < 0.002 else None
        return row

    def _random_picture(self) -> str:
        return self._rng.choice(list(self._pictures))

    def _from_template(self, model: DiffusionModel, state: State, count: int, picture: str) -> Generation:
        """Return a copy of the generation of this kind, which is planned only once."""
        key = (model.pk, state, str(count))
        if key not in self._templates:
            width, height = self._pictures[picture].size
            parameters = ImageToImageParameters(
                prompt="-", num_inference_steps=20, seed=0, num_images_per_prompt=count, model_id=model.pk
            )
            recipe, warnings = plan(parameters, model.reference(), [], (width, height), model.limits())
            code = ERRORS.get(state)
            message = MESSAGES.get(code, "Out of memory error. Try reducing input image resolution.") if code else ""
            self._templates[key] = Generation(
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
            vars(self._templates[key]).update(input=f"{FOLDER}input.webp", input_thumbnail=f"{FOLDER}input-small.webp")
        row = Generation.__new__(Generation)
        # The constructor would take most of the time.
        vars(row).update(vars(self._templates[key]))
        return row

    def _prompt(self) -> tuple[str, str]:
        rng = self._rng
        is_edit = rng.random() < 0.5
        words = [rng.choice(EDITS) if is_edit else f"{rng.choice(SUBJECTS)} {rng.choice(STYLES)}"]
        words += rng.sample(DETAILS, rng.randrange(4))
        negative_prompt = rng.sample(NEGATIVE_PROMPTS, 2) if rng.random() < 0.3 else []
        return ", ".join(words), ", ".join(negative_prompt)

    def _images(self, row: Generation) -> Iterator[dict[str, Any]]:
        if row.state != State.SUCCEEDED:
            return
        for index, seed in enumerate(row.recipe["seeds"]):
            picture = self._random_picture()
            review_fields = self._review_fields(row.finished or row.created, row.is_flagged and index == 0)
            row.is_flagged = review_fields["nsfw"] or (row.is_flagged and index > 0)
            yield {
                "generation_id": row.id,
                "index": index,
                "seed": seed,
                "file": f"{FOLDER}{picture}.webp",
                "thumbnail": f"{FOLDER}{picture}-small.webp",
                "width": self._pictures[picture].width,
                "height": self._pictures[picture].height,
                **review_fields,
            }

    def _review_fields(self, finished: datetime, is_flagged: bool) -> dict[str, Any]:
        """Return the safety fields of a picture; most pictures older than a day are reviewed."""
        rng = self._review_rng
        is_sample = not is_flagged and rng.random() < settings.REVIEW_SAMPLE
        score = 0.8 + 0.2 * rng.betavariate(2, 1) if is_flagged else 0.8 * rng.betavariate(1, 9)
        review = Review.WAITING if is_flagged or is_sample else Review.NONE
        if review and finished < self._end - timedelta(days=1) and rng.random() < 0.9:
            is_bad = rng.random() < (5 * (score - 0.75) if is_flagged else score / 4)
            review = Review.CONFIRMED if is_bad else Review.SAFE
        return {
            "nsfw": review == Review.CONFIRMED or (is_flagged and review == Review.WAITING),
            "nsfw_score": score,
            "checker": "opennsfw",
            "threshold": 0.8,
            "review": str(review),
            "is_sample": is_sample,
            "quarantined": finished if review == Review.CONFIRMED else None,
        }

    def _decision(self, image: dict[str, Any]) -> dict[str, Any]:
        """Return a decision without its picture, whose primary key is not known, as if it were deleted."""
        rng, is_confirmed = self._review_rng, image["review"] == Review.CONFIRMED
        return {
            **{name: image[name] for name in ("index", "threshold", "checker", "is_sample")},
            "when": min(
                self._end, datetime.fromtimestamp((image["generation_id"].int >> 80) / 1000, UTC) + timedelta(days=1)
            ),
            "generation": image["generation_id"],
            "reviewer_name": rng.choice(REVIEWERS),
            "before": str(Review.WAITING),
            "after": image["review"],
            "reason": rng.choice(Reason.values) if is_confirmed else "",
            "seconds": rng.lognormvariate(1.2, 0.5),
            "score": image["nsfw_score"],
        }


def _uuid7(created: datetime, rng: random.Random) -> UUID:
    """Return a UUID of version 7 with this time."""
    milliseconds = int(created.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62))


def _pictures() -> dict[str, Image.Image]:
    """Store variants of the sample picture, and return them by name."""
    with Image.open(samples.PHOTO) as file:
        sample = file.convert("RGB")
    sample.thumbnail((512, 512))
    side = min(sample.size)
    left = sample.width - side * 3 // 4
    crops = [sample, sample.crop((0, 0, side, side)), sample.crop((left, 0, sample.width, side))]
    pictures = {f"look-{number}": effect(crops[number % 3]) for number, effect in enumerate(EFFECTS)}
    for name, picture in {"input": sample, **pictures}.items():
        for suffix, content in (("", encode_lossless(picture)), ("-small", thumbnail(picture, THUMBNAIL_SIDE))):
            file_name = f"{FOLDER}{name}{suffix}.webp"
            files.share([file_name])
            default_storage.delete(file_name)
            storage.store(file_name, content)
    return pictures


def _insert(model: type[models.Model], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of attribute names and values; a missing value is the field's default.

    Not by `bulk_create`, which prepares each value with its field, and on SQLite inserts only some twenty such rows at a time.
    """
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.BigAutoField)]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    values = ", ".join(["%s"] * len(fields))
    defaults = {field.attname: None if field.primary_key else field.get_default() for field in fields}
    parameters = [[_database_value(row.get(name, default)) for name, default in defaults.items()] for row in rows]
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({values})"  # noqa: S608  names of our tables
    with connection.cursor() as cursor:
        cursor.executemany(sql, parameters)


def _database_value(value: Any) -> Any:
    """Convert a value to a type that both databases accept."""
    match value:
        case None | str() | int() | float():
            return value
        case UUID():
            return value.hex
        case datetime():
            return connection.ops.adapt_datetimefield_value(value)
        case _:
            return json.dumps(value)
