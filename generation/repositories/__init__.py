"""Repositories of models and LoRAs: what staff name, what is in it on disk or on the hub, read without any weights."""
