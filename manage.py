#!/usr/bin/env python
"""Django's command line for Dreamsite."""

import gc
import os
import sys

import django
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # Other users must not read files in DATA_DIR.
    os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
    # Garbage collections during the imports are a fifth of their time, and later ones need not search what stays.
    gc.disable()
    django.setup()
    gc.freeze()
    gc.enable()
    execute_from_command_line(sys.argv)
