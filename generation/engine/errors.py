"""Errors of the engine, with messages for the user."""

from collections.abc import Sequence

from generation.parameters import ErrorCode


class EngineError(Exception):
    """A failed run. `message` contains no paths and no library errors; the cause is chained, for the log."""

    code: ErrorCode

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class OutOfMemory(EngineError):
    """The loaded model leaves too little memory even for one picture at a time."""

    code = ErrorCode.OUT_OF_MEMORY

    def __init__(self) -> None:
        super().__init__("Out of memory error. Try reducing input image resolution.")


class ModelTooLarge(EngineError):
    """The weights of a model do not fit into the memory, though no other model is loaded."""

    code = ErrorCode.MODEL_TOO_LARGE

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Model '{model_id}' does not fit into the memory of the worker, whatever the picture. Use another model. "
            "Staff can choose a smaller memory plan for it, or the pool of a worker with more memory."
        )


class ModelFailed(EngineError):
    """A model that cannot be loaded or failed while running."""

    code = ErrorCode.MODEL_FAILED


class PackagesMissing(ModelFailed):
    """Packages that a model needs are not installed."""

    def __init__(self, model_id: str, packages: Sequence[str]) -> None:
        super().__init__(
            f"Model '{model_id}' needs {' and '.join(packages)}, which is not installed on this server. Staff can install "
            "it: .venv/bin/pip install --no-deps --require-hashes --requirement requirements/gpu.txt"
        )


class ModelNotDownloaded(EngineError):
    """A model whose weights are not on the worker's disk."""

    code = ErrorCode.MODEL_NOT_DOWNLOADED

    def __init__(self, model_id: str) -> None:
        super().__init__(f"Model '{model_id}' is not downloaded yet. Try again later, or use another model.")


class LoraFailed(EngineError):
    """A LoRA that is missing, unreadable or incompatible with the model."""

    code = ErrorCode.LORA_FAILED


class DeviceLost(Exception):
    """The device failed, and no run of this process can use it again. Only a new process can."""


class DeviceMissing(Exception):
    """There is no such device."""


def first_cause(error: BaseException) -> str:
    """Return the first line of the error at the start of the chain, without a full stop; its type if it has no text."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
