"""The pages where users change their e-mail address, and confirm the new one."""

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import email_links, mail, security_log
from accounts.confirmation import ConfirmPasswordForm
from accounts.models import OutgoingMail, User
from accounts.requests import current_user

MAX_WAITING = 5
"""Mails to confirm an address that a user may ask for in `accounts.mail.RESET_PAUSE`."""


class EmailForm(ConfirmPasswordForm):
    """An e-mail address, or none, and the password: who has the mailbox of the address can set a new one."""

    always = True
    email = forms.EmailField(
        label="E-mail address",
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text="For a lost password and for notices. Empty: no mail.",
    )
    field_order = ("email", "password")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest) -> HttpResponse:
    """Ask for a new address, and mail the link there that confirms it. Without mail raises Http404."""
    user = _user_with_mail(request)
    form = EmailForm(request, request.POST if request.method == "POST" else None, initial={"email": user.email})
    if not form.is_valid():
        return render(request, "accounts/email.html", {"form": form})
    address = form.cleaned_data["email"]
    if address == user.email:
        messages.info(request, "That is your address already." if address else "You have no e-mail address.")
    elif not address:
        _set(user, "")
        messages.success(request, "Your e-mail address was removed.")
    elif OutgoingMail.objects.filter(user=user, kind=OutgoingMail.Kind.CONFIRMATION).count() >= MAX_WAITING:
        form.add_error("email", "You have asked for many of these mails. Wait ten minutes, and look among the spam.")
        return render(request, "accounts/email.html", {"form": form}, status=429)
    else:
        mail.ask_to_confirm(user, address)
        messages.success(
            request,
            f"A mail with a link is on its way to {address}. The address is yours once you have opened the link.",
        )
    return redirect("settings")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, code: str) -> HttpResponse:
    """Show the address that the link confirms; with `POST`, make it the user's. Another user's link is 404."""
    user = _user_with_mail(request)
    address = email_links.address(user, code)
    if address is None:
        return render(request, "accounts/email_not_confirmed.html", status=404)
    if request.method != "POST":
        return render(request, "accounts/confirm_email.html", {"address": address})
    _set(user, address)
    messages.success(request, f"{address} is your e-mail address now.")
    return redirect("settings")


def _user_with_mail(request: HttpRequest) -> User:
    if not mail.is_on():
        raise Http404
    return current_user(request)


def _set(user: User, address: str) -> None:
    """Change the address, and tell the former one, in case that somebody else did this."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(email=address)
        if user.email:
            mail.tell_of_change(user, user.email)
    security_log.log("email.change")
