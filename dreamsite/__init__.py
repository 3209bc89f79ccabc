"""The Django project of Dreamsite."""

__version__ = "1.0.0"
