"""Errors of the engine, with messages for the user."""

from generation.parameters import ErrorCode


class EngineError(Exception):
    """A failed run. `message` contains no paths and no library errors; the cause is chained, for the log."""

    code: ErrorCode

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class OutOfMemory(EngineError):
    """The memory is too small even for one picture at a time."""

    code = ErrorCode.OUT_OF_MEMORY

    def __init__(self) -> None:
        super().__init__("Out of memory error. Try reducing input image resolution.")


class ModelFailed(EngineError):
    """A model that is missing, cannot be loaded or failed while running."""

    code = ErrorCode.MODEL_FAILED


class LoraFailed(EngineError):
    """A LoRA that is missing, unreadable or incompatible with the model."""

    code = ErrorCode.LORA_FAILED


def first_cause(error: BaseException) -> str:
    """Return the first line of the error at the start of the chain, without a full stop; its type if it has no text."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
