"""How the bundled models are made: from photos of free licence to directories that diffusers loads. README.md tells it.

Nothing here is imported by the service.
"""
