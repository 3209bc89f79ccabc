"""Sign-in, sign-up and the page of a user's tokens."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from accounts import attempts, lockout, mail, security_log, usernames
from accounts.forms import ChangePasswordForm, NewTokenForm, SignUpForm
from accounts.models import ApiToken, OutgoingMail
from accounts.refused_attempts import too_many_attempts
from accounts.requests import current_user


class SignIn(LoginView):
    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # htmx would put the sign-in page into a part of the page whose session has ended; reload it instead.
        if "HX-Request" in request.headers:
            return HttpResponseClientRefresh()
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        lockout.remember_device(response, form.get_user())
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        # The name stays in its field, and is rarely what was wrong.
        if form.data.get("username"):
            form.fields["username"].widget.attrs.pop("autofocus", None)
            form.fields["password"].widget.attrs["autofocus"] = True
        return super().form_invalid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(sign_up=settings.SIGN_UP, sends_mail=mail.is_on(), **kwargs)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Create an account, if SIGN_UP allows it."""
    if not settings.SIGN_UP:
        raise Http404
    if request.user.is_authenticated:
        return redirect(settings.LOGIN_REDIRECT_URL)
    if request.method != "POST":
        return render(request, "accounts/sign_up.html", {"form": SignUpForm()})
    try:
        attempts.count("sign-up", request.META.get("REMOTE_ADDR", ""), settings.SIGN_UP_ATTEMPTS)
    except attempts.TooManyAttempts as error:
        security_log.log("account.refuse")
        return too_many_attempts(request, error, "too_many_sign_ups.html")
    form = SignUpForm(request.POST)
    if not form.is_valid() or not _save(form):
        return render(request, "accounts/sign_up.html", {"form": form})
    user = form.instance
    security_log.log("account.create", user=user.username)
    if address := form.cleaned_data.get("address"):
        mail.ask_to_confirm(user, address)
        messages.success(
            request, f"A mail with a link is on its way to {address}. Open the link to confirm the address."
        )
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    response = redirect(settings.LOGIN_REDIRECT_URL)
    lockout.remember_device(response, user)
    return response


def _save(form: SignUpForm) -> bool:
    """Create the user. Returns False, with an error in the form, if somebody has taken the name at this moment."""
    try:
        form.save()
    except IntegrityError:
        form.add_error("username", usernames.TAKEN)
        return False
    return True


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    """Change the password. Other sessions end, as do the user's tokens if the box is ticked."""
    user = current_user(request)
    form = ChangePasswordForm(request, user, request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return render(request, "accounts/password_change.html", {"form": form})
    form.save()
    update_session_auth_hash(request, user)
    security_log.log("password.change")
    text = "Your password was changed, and you are signed out everywhere else."
    if form.cleaned_data["revoke_tokens"]:
        count = ApiToken.objects.revoke_all(user)
        text += f" {count} token{'' if count == 1 else 's'} revoked."
    messages.success(request, text)
    response = redirect("settings")
    lockout.remember_device(response, user)
    return response


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """List the user's tokens and create new ones. The text of a new token is only in the response to its creation."""
    user = current_user(request)
    form = NewTokenForm(request, request.POST if request.method == "POST" else None)
    new_token, raw_token = None, ""
    if form.is_valid():
        with transaction.atomic():
            new_token, raw_token = ApiToken.objects.issue(user, form.cleaned_data["name"], form.expires())
            mail.notify(OutgoingMail.Kind.TOKEN, user, name=new_token.name, prefix=new_token.prefix)
        form = NewTokenForm(request)
    return render(
        request,
        "accounts/tokens.html",
        {
            "form": form,
            "new_token": new_token,
            "raw_token": raw_token,
            # Newest first, revoked and expired ones last.
            "tokens": sorted(user.tokens.all(), key=lambda token: not token.is_usable),
            "site_url": request.build_absolute_uri("/")[:-1],
        },
    )


@login_required
@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(ApiToken, pk=token_id, user=current_user(request))
    token.revoke()
    messages.success(request, f"The token “{token.name}” was revoked.")
    return redirect("tokens")
