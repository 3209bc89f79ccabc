"""Backups of the service, those that are being made among them."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.leased_jobs import LeasedJob


class Backup(LeasedJob):
    """A job that makes a backup, or what it has made: see `generation.maintenance.backups`."""

    place = models.CharField(max_length=500, help_text="A directory, or s3://bucket/prefix.")
    name = models.CharField(max_length=50, blank=True, help_text="Of the finished backup in its place.")
    files = models.PositiveIntegerField(default=0, help_text="Files that it names.")
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes that were written for it.")
    problem = models.TextField(blank=True, help_text="Why the last attempt failed, or what the backup lacks.")

    class Meta:
        ordering = ("-created",)
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["place"], condition=Q(finished=None), name="one_unfinished_backup_of_a_place"
            )
        ]
