from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts import email_address, views
from accounts.password_reset import ForgottenPassword, NewPassword

urlpatterns = [
    path("accounts/sign-in", views.SignIn.as_view(), name="sign-in"),
    path("accounts/sign-out", LogoutView.as_view(), name="sign-out"),
    path("accounts/sign-up", views.sign_up, name="sign-up"),
    path("accounts/password", views.change_password, name="password_change"),
    path("accounts/password/forgotten", ForgottenPassword.as_view(), name="forgotten-password"),
    path("accounts/password/reset/<uidb64>/<token>", NewPassword.as_view(), name="password_reset_confirm"),
    path("accounts/email", email_address.change, name="email"),
    path("accounts/email/<str:code>", email_address.confirm, name="confirm-email"),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke", views.revoke_token, name="revoke-token"),
]
