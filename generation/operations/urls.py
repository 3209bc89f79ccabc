from django.urls import path

from generation.operations import views

urlpatterns = [
    path("", views.overview, name="operations"),
    path("live", views.live, name="operations-live"),
    path("pools/<str:pool>/pause", views.pause, name="operations-pause"),
    path("pools/<str:pool>/resume", views.resume, name="operations-resume"),
    path("order", views.order, name="operations-order"),
    path("forget", views.forget, name="operations-forget"),
]
