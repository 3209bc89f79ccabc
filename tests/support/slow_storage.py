"""A storage that takes its time, such as a bucket that is hard to reach."""

import threading
from typing import Any

from generation.images.storage import SignedFileSystemStorage


class SlowStorage(SignedFileSystemStorage):
    """Keeps whoever stores a result waiting, which sets `is_asked`, until `may_go_on` is set."""

    is_asked = threading.Event()
    may_go_on = threading.Event()

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        if str(name).startswith("outputs/"):
            self.is_asked.set()
            self.may_go_on.wait()
        return super().save(name, content, max_length)
