"""Rows that nobody can change or delete, not even superusers, such as those of the audit log."""

from typing import Any, ClassVar, NoReturn

from django.db import models


class Unchangeable(TypeError):
    """Code tried to change or delete a row that is append-only."""

    def __init__(self, model: type[models.Model]) -> None:
        super().__init__(f"A {model._meta.verbose_name} cannot be changed or deleted; add another row instead.")


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **_: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        raise Unchangeable(self.model)

    def delete(self) -> NoReturn:
        raise Unchangeable(self.model)

    delete.queryset_only = True  # type: ignore[attr-defined]


class AppendOnly(models.Model):
    """A row that cannot be changed or deleted.

    The rows that it refers to can be deleted: Django then sets the foreign key to NULL without using the manager.
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
