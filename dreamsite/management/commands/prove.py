"""`manage.py prove`: make a generation again in the queue, and say whether its pictures are bit-exact."""

import time
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from generation import display
from generation.jobs import proofs
from generation.models import Generation
from generation.parameters import Refusal

_POLL_SECONDS = 0.5


class Command(BaseCommand):
    help = "Make a generation again and compare the pictures. Exit with status 1 unless they are bit-exact."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=UUID, help="The id of a generation that succeeded.")

    def handle(self, *args: Any, id: UUID, **options: Any) -> None:
        generation = Generation.objects.select_related("user").filter(pk=id).first()
        if generation is None:
            raise CommandError(f"There is no generation {id}.")
        try:
            proof = proofs.submit(generation, generation.user)
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(f"Proof {proof.pk} is queued for {generation.user.get_username()} ...")
        self.stdout.flush()
        while not proof.is_final:
            time.sleep(_POLL_SECONDS)
            proof.refresh_from_db()
        words = display.proof(proof)
        found = proof.proof or {}
        for difference in found["differences"] or ():
            self.stdout.write(f"{difference['name']}: {difference['then']} then, {difference['now']} now")
        if not found["identical"]:
            raise CommandError(words)
        self.stdout.write(words)
