"""The answer to one attempt too many."""

import math

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from accounts import attempts


def too_many_attempts(request: HttpRequest, error: attempts.TooManyAttempts, template: str) -> HttpResponse:
    """Answer with 429, when to try again, and this page of the folder `accounts`."""
    page = render(request, f"accounts/{template}", {"end": error.end}, status=429)
    page["Retry-After"] = str(max(1, math.ceil((error.end - timezone.now()).total_seconds())))
    return page
