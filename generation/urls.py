from django.urls import path

from generation.pages import generation, history, selection

urlpatterns = [
    path("history/", history.history, name="history"),
    path("history/tiles", history.tiles, name="tiles"),
    path("history/<uuid:generation_id>/", generation.generation, name="generation"),
    path("history/<uuid:generation_id>/cancel", generation.cancel, name="cancel"),
    path("history/<uuid:generation_id>/favourite", selection.favourite, name="favourite"),
]
