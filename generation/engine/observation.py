"""Observation of methods of diffusers' objects during a run, without a change to what they do."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any


@contextmanager
def results_observed(target: Any, name: str, observe: Callable[[Mapping[str, Any], Any], None]) -> Iterator[None]:
    """Call `observe` with the arguments by name and the result of each call of `target.name` within this context.

    What `observe` raises ends the call. Contexts of the same method can be nested; the inner one observes last.
    """
    method = getattr(target, name)
    signature = inspect.signature(method)
    is_replaced = name in vars(target)

    @wraps(method)  # pipelines inspect the signature, to see which arguments they may pass
    def observed(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        observe(signature.bind(*arguments, **options).arguments, result)
        return result

    setattr(target, name, observed)
    try:
        yield
    finally:
        if is_replaced:
            setattr(target, name, method)
        else:
            delattr(target, name)
