"""Reports of shared pictures to the staff; nobody needs an account for them."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts import lockout
from generation.library import sharing
from generation.moderation import reports
from generation.pages.shared import not_found, public


class ReportForm(forms.Form):
    """What is wrong with a picture."""

    reason = forms.CharField(
        label="What is wrong with it?",
        max_length=reports.MAX_REASON_LENGTH,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Only the staff read it.",
    )


@require_http_methods(["GET", "HEAD", "POST"])
def report(request: HttpRequest, code: str, entry_id: UUID | None = None, index: int = 0) -> HttpResponseBase:
    """Show the form to report the picture of a link, or one of its album; `POST` sends the report."""
    link = sharing.find(code)
    image = link and (sharing.image_of_album(link, entry_id, index) if entry_id else sharing.image_of(link))
    if not link or not image:
        return not_found(request)
    form, status = ReportForm(request.POST if request.method == "POST" else None), 200
    if form.is_valid():
        try:
            reports.report(image, form.cleaned_data["reason"], lockout.address(request) or "")
        except reports.TooManyReports:
            form.add_error(None, f"You have sent {reports.MAX_PER_HOUR} reports within an hour. Try again later.")
            status = 429
        else:
            messages.success(request, "The picture was reported. The staff will look at it.")
            return public(redirect("shared", link.code))
    elif form.errors:
        status = 422
    response = public(render(request, "generation/report.html", {"link": link, "form": form}, status=status))
    # Without a referrer browsers send forms with the origin "null", which the CSRF check refuses.
    response["Referrer-Policy"] = "same-origin"
    return response
