"""Findings of the doctor, in sentences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Finding:
    """What was found about a part of the service. It is wrong if there is advice, which says what to do."""

    part: str
    text: str
    advice: str = ""

    @property
    def is_wrong(self) -> bool:
        return self.advice != ""


Check = Callable[[], Iterator[Finding]]


def clock(name: str, theirs: datetime, ours: datetime, allowed: float) -> Finding:
    """Compare the clock of another host with that of this one; `allowed` are seconds."""
    apart = (theirs - ours).total_seconds()
    if abs(apart) <= allowed:
        return Finding("clock", f"That of {name} and this one agree.")
    ahead = "ahead of" if apart > 0 else "behind"
    return Finding(
        "clock",
        f"That of {name} is {abs(apart):.0f} s {ahead} this one: leases and signed addresses depend on both.",
        "Run chrony or systemd-timesyncd on all hosts.",
    )
