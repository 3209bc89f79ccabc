"""`POST /generations/{id}/prove`: make a generation again, and compare."""

from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.requests import current_token
from generation.api import openapi_operations
from generation.api.generations import get_generation
from generation.api.views import JsonView
from generation.jobs import proofs
from generation.serializers import record


class Prove(JsonView):
    @extend_schema(**openapi_operations.PROOF)
    def post(self, request: Request, generation_id: UUID) -> Response:
        """Make one of your generations again, and say whether the pictures are bit-exact, how far they differ, and why."""
        token = current_token(request)
        proof = proofs.submit(get_generation(request, generation_id), token.user, token)
        location = request.build_absolute_uri(reverse("generation-record", args=[proof.pk]))
        body = record(proof, request.build_absolute_uri, token.pk)
        return Response(body, status.HTTP_202_ACCEPTED, headers={"Location": location})
