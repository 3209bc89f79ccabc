"""The common options and progress messages of the stages' commands."""

import argparse
import sys
import time
from pathlib import Path

_STARTED = time.monotonic()


def stage_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every stage: `--work` and `--minutes`."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where data and checkpoints lie")
    parser.add_argument("--minutes", type=float, default=60, help="time budget; the stage goes on from there next time")
    return parser


def unet_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every stage that trains a UNet."""
    parser = stage_parser(doc)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="samples of each process in a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument(
        "--cooling", type=float, default=0, help="minutes at the end in which the learning rate falls to 0"
    )
    return parser


def parse_arguments(doc: str | None) -> argparse.Namespace:
    """Parse the options of a stage without other options."""
    return stage_parser(doc).parse_args()


def say(text: str) -> None:
    """Print a line of progress with the seconds since the start."""
    print(f"{time.monotonic() - _STARTED:8.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201
