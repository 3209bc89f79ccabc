"""Training of the bundled models, from photos with free licences to directories that diffusers loads: see README.md.

The service imports nothing of this package.
"""
