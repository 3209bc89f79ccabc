from django.contrib.auth import views as auth_views
from django.urls import path

from accounts import views

urlpatterns = [
    path("accounts/sign-in", views.SignIn.as_view(), name="sign-in"),
    path("accounts/sign-out", auth_views.LogoutView.as_view(), name="sign-out"),
    path("accounts/sign-up", views.sign_up, name="sign-up"),
    path(
        "accounts/password",
        auth_views.PasswordChangeView.as_view(template_name="accounts/password_change.html"),
        name="password_change",
    ),
    path(
        "accounts/password/done",
        auth_views.PasswordChangeDoneView.as_view(template_name="accounts/password_change_done.html"),
        name="password_change_done",
    ),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke", views.revoke_token, name="revoke-token"),
]
