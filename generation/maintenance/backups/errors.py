class BackupFailed(Exception):
    """A backup cannot be made or restored. The message says why, and what to do."""


class Interrupted(Exception):
    """The process is stopping, or another one has taken the backup over."""
