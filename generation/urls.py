from django.urls import path

from generation import views

urlpatterns = [
    path("history/", views.history, name="history"),
    path("history/tiles", views.tiles, name="tiles"),
    path("history/<uuid:generation_id>/", views.generation, name="generation"),
    path("history/<uuid:generation_id>/cancel", views.cancel, name="cancel"),
]
