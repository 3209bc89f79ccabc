"""Rows that are written once: what audit rests on, no one edits or deletes, superusers included."""

from typing import Any, ClassVar, NoReturn

from django.db import models


class Unchangeable(TypeError):
    """Somebody tried to change or delete a row that is kept for audit."""

    def __init__(self, model: type[models.Model]) -> None:
        super().__init__(f"A {model._meta.verbose_name} is written once: add another row that says what changed.")


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **_: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def delete(self) -> NoReturn:
        raise Unchangeable(self.model)

    delete.queryset_only = True  # type: ignore[attr-defined]


class AppendOnly(models.Model):
    """A row that refuses to be changed or deleted.

    What it points to may go: Django then empties the foreign key past the manager, and the rest of the row stays.
    """

    objects: ClassVar[Any] = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise Unchangeable(type(self))
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise Unchangeable(type(self))
