"""The users' pages."""
