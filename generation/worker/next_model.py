"""The model that the queue needs next: its weights are read into memory while a worker runs another one."""

from django.utils import timezone

from generation.engine.engine import Engine
from generation.models import DiffusionModel, Generation
from generation.recipes import ModelReference


class NextModel:
    """The next model of a pool's queue that this worker has not loaded."""

    def __init__(self, pool: str, engine: Engine) -> None:
        self._pool = pool
        self._engine = engine
        self._last: ModelReference | None = None

    def read_ahead(self) -> None:
        """Read its weights if the queue has another one than at the last call. Raises database errors."""
        model = self._find()
        if model is not None and model != self._last:
            self._engine.read_ahead(model)
        self._last = model

    def _find(self) -> ModelReference | None:
        warm = self._engine.warm_models
        # Most queues need no other model, which this tells at once.
        if not DiffusionModel.objects.filter(enabled=True, pool=self._pool).exclude(pk__in=warm).exists():
            return None
        rows = Generation.objects.claimable(self._pool, timezone.now()).exclude(model__in=warm)
        # The oldest, by an index: the order of claims would take a sort of all that waits.
        generation = rows.select_related("model").order_by("pk").first()
        return generation.model.reference() if generation else None
