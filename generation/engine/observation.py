"""Observation of methods of diffusers' objects during a run, and replacement of their results."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any


def results_observed(
    target: Any, name: str, observe: Callable[[Mapping[str, Any], Any], None]
) -> AbstractContextManager[None]:
    """Call `observe` with the arguments by name and the result of each call of `target.name` within this context.

    What `observe` raises ends the call. Contexts of the same method can be nested; the inner one observes last.
    """

    def same(arguments: Mapping[str, Any], result: Any) -> Any:
        observe(arguments, result)
        return result

    return results_replaced(target, name, same)


@contextmanager
def results_replaced(target: Any, name: str, replace: Callable[[Mapping[str, Any], Any], Any]) -> Iterator[None]:
    """Let `target.name` return what `replace` makes of its arguments by name and its result, within this context.

    As with `results_observed`, contexts can be nested; the inner one gets what the outer one returned.
    """
    method = getattr(target, name)
    signature = inspect.signature(method)
    is_replaced = name in vars(target)

    @wraps(method)  # pipelines inspect the signature, to see which arguments they may pass
    def replaced(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        return replace(signature.bind(*arguments, **options).arguments, result)

    setattr(target, name, replaced)
    try:
        yield
    finally:
        if is_replaced:
            setattr(target, name, method)
        else:
            delattr(target, name)
