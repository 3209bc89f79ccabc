"""The base of the errors that tell staff why an action was not carried out."""


class StaffRefusal(Exception):
    """An action of staff that was not carried out. `message` says why, for the person who asked for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
