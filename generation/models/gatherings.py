"""What people gather generations by: words, contact sheets, links for others."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.models.generations import Generation, State


class Match(models.Lookup[Any]):
    """Whether an entry of the index of words is found by a query in the database's own language."""

    lookup_name = "match"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = self.process_rhs(compiler, connection)
        operator = "%s @@ %s::tsquery" if connection.vendor == "postgresql" else "%s MATCH %s"
        return operator % (left, right), [*left_values, *right_values]


class EntryField(models.TextField[str, str]):
    """What the database's full text search looks into."""


EntryField.register_lookup(Match)


class Words(models.Model):
    """The index of words, by which `generation.library.search` finds generations. It alone writes the table, which its migration makes.

    SQLite: a table of FTS5, whose hidden column of its own name is the index. PostgreSQL: a table with a tsvector.
    """

    generation = models.OneToOneField(
        Generation, models.DO_NOTHING, primary_key=True, related_name="words", db_constraint=False
    )
    place = models.BigIntegerField(db_column="rowid", help_text="Of SQLite alone: grows with time, as ids do.")
    entry = EntryField(db_column="generation_words")

    class Meta:
        managed = False
        db_table = "generation_words"


class ExplorationQuerySet(models.QuerySet["Exploration"]):
    def counted(self) -> Any:
        """Each with how many of its generations there are to see, `made`, and how many wait or run, `left`."""
        seen = Q(generations__deleted=None, generations__trashed=None)
        live = Q(generations__state__in=(State.QUEUED, State.RUNNING))
        return self.annotate(
            made=models.Count("generations", filter=seen), left=models.Count("generations", filter=live)
        )

    def lately(self, count: int) -> "list[Exploration]":
        """The newest, `counted`, without those that are in the trash as a whole; no others are counted."""
        newest = self.filter(pk__in=list(self.values_list("pk", flat=True)[:count]))
        return list(newest.counted().filter(made__gt=0))


class Exploration(models.Model):
    """A grid of generations of one picture, in which one or two fields of the request vary."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="explorations", db_index=False)
    created = models.DateTimeField(default=timezone.now)
    columns = models.JSONField(help_text="The field that varies along a row, and its values.")
    rows = models.JSONField(null=True, blank=True, help_text="The field that varies down a column, and its values.")

    objects: ClassVar[Any] = ExplorationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="explorations")]


class ShareLink(models.Model):
    """An address under which anybody may see one picture of a generation, until it expires or is revoked."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="share_links")
    index = models.PositiveSmallIntegerField(default=0, help_text="Of the picture.")
    code = models.CharField(max_length=43, unique=True, editable=False, help_text="The random part of the address.")
    with_recipe = models.BooleanField(default=False, help_text="Whether prompt, model, seed and values are shown too.")
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created",)
