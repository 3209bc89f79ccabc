"""What can go wrong while pictures are made, in words fit for the user who asked for them."""

from generation.parameters import ErrorCode


class EngineError(Exception):
    """A run that failed. `message` names no path and quotes no library; the cause is chained for the log."""

    code: ErrorCode

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class OutOfMemory(EngineError):
    """Not even one picture at a time fits into memory."""

    code = ErrorCode.OUT_OF_MEMORY

    def __init__(self) -> None:
        super().__init__("Out of memory error. Try reducing input image resolution.")


class ModelFailed(EngineError):
    """The model is not there, cannot be loaded or broke while running."""

    code = ErrorCode.MODEL_FAILED


class LoraFailed(EngineError):
    """A LoRA is not there, cannot be read or does not fit the model."""

    code = ErrorCode.LORA_FAILED


def first_cause(error: BaseException) -> str:
    """Return the first line of the error at the start of the chain, without a full stop; its type if it has no text."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
