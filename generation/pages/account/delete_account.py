"""The page that deletes the user's account, and the receipt of a deletion."""

from uuid import UUID

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts import security_log
from accounts.confirmation import ConfirmPasswordForm
from accounts.models import AccountDeletion
from accounts.requests import current_user
from generation.maintenance import account_deletion
from generation.maintenance.account_deletion import LastAdministrator
from generation.models import GeneratedImage, Generation

_COUNT_LABELS = {
    "generations": ("request", "requests"),
    "pictures": ("picture", "pictures"),
    "files": ("file", "files"),
    "tokens": ("token", "tokens"),
    "share_links": ("share link", "share links"),
    "contact_sheets": ("contact sheet", "contact sheets"),
    "albums": ("album", "albums"),
    "exports": ("export", "exports"),
    "sessions": ("session", "sessions"),
}


class DeleteAccountForm(ConfirmPasswordForm):
    """The form that asks for the password in any case, since nothing can be undone."""

    always = True


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Show what will be deleted and ask for the password; with the right one, start the deletion and sign out."""
    user = current_user(request)
    form = DeleteAccountForm(request, request.POST if request.method == "POST" else None)
    can_delete = not account_deletion.is_last_administrator(user)
    if can_delete and form.is_valid():
        try:
            deletion = account_deletion.request(user)
        except LastAdministrator:
            # The other administrator was deleted at the same moment.
            return redirect("delete-account")
        security_log.log("account.delete")
        logout(request)
        return redirect("account-deleted", deletion.pk)
    return render(
        request,
        "accounts/delete_account.html",
        {
            "form": form,
            "can_delete": can_delete,
            "generations": Generation.objects.filter(user=user, deleted=None).count(),
            "pictures": GeneratedImage.objects.filter(generation__user=user, generation__deleted=None).count(),
            "tokens": user.tokens.count(),
        },
    )


@never_cache
@require_safe
def receipt(request: HttpRequest, deletion_id: UUID) -> HttpResponse:
    """Show what was deleted so far to anybody who has the address, since the account cannot sign in any more."""
    deletion = get_object_or_404(AccountDeletion, pk=deletion_id)
    counts = [
        (count, singular if count == 1 else plural)
        for kind, (singular, plural) in _COUNT_LABELS.items()
        if (count := deletion.counts.get(kind, 0))
    ]
    return render(request, "accounts/account_deleted.html", {"deletion": deletion, "counts": counts})
