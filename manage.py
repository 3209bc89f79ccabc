#!/usr/bin/env python
"""Dreamsite's command line in a checkout."""

from dreamsite.command_line import main

if __name__ == "__main__":
    main()
