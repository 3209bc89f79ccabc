#!/usr/bin/env python
"""Django's command line for Dreamsite."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # Other users must not read files in DATA_DIR.
    os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
    execute_from_command_line(sys.argv)
