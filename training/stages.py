"""What every stage's command shares: its options, and saying how far it is."""

import argparse
import sys
import time
from pathlib import Path

_STARTED = time.monotonic()


def stage_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every stage: `--work` and `--minutes`."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where data and checkpoints lie")
    parser.add_argument("--minutes", type=float, default=60, help="time budget; the stage goes on from there next time")
    return parser


def parse_arguments(doc: str | None) -> argparse.Namespace:
    """The options of a stage that has no others."""
    return stage_parser(doc).parse_args()


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"{time.monotonic() - _STARTED:8.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201
