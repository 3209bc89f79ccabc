"""Prove a generation: the last proof on its page, and the button for another."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.requests import current_user
from generation import display
from generation.jobs import proofs
from generation.models import Generation
from generation.parameters import Refusal


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def prove(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Show the last proof of one of the user's generations; with POST make another."""
    rows = Generation.objects.owned_by(request.user).prefetch_related("images", "references")
    row = get_object_or_404(rows, pk=generation_id)
    problem = ""
    if request.method == "POST":
        try:
            proofs.submit(row, current_user(request))
        except Refusal as refusal:
            problem = refusal.message
    if "HX-Request" in request.headers:
        return render(request, "generation/_proof.html", {"generation": row, "problem": problem, **context(row)})
    if problem:
        messages.error(request, problem)
    return redirect(f"{reverse('generation', args=[row.pk])}?receipt#receipt")


def context(row: Generation) -> dict[str, Any]:
    """Return what the page of a generation shows of its proofs; prefetch `images` and `references`."""
    proof: Generation | None = row.proofs.filter(user=row.user_id).order_by("-pk").first()
    return {
        "proof": proof,
        "proof_words": display.proof(proof) if proof else "",
        "can_prove": proofs.is_possible(row),
        "proof_cost": proofs.cost(row, row.model),
    }
