"""The commands of Dreamsite: `manage.py` in a checkout, `dreamsite` where the wheel is installed."""

import gc
import os
import sys

import django
from django.core.management import execute_from_command_line

from dreamsite import __version__


def main() -> None:
    """Run the command that the process was started with."""
    if sys.argv[1:] in (["--version"], ["version"]):
        print(f"dreamsite {__version__}")  # noqa: T201
        return
    # Other users must not read files in DATA_DIR.
    os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
    # Garbage collections during the imports are a fifth of their time, and later ones need not search what stays.
    gc.disable()
    django.setup()
    gc.freeze()
    gc.enable()
    execute_from_command_line(sys.argv)
