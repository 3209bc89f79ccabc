from django.urls import path

from generation.pages import generation, history, selection, trash

urlpatterns = [
    path("history/", history.history, name="history"),
    path("history/tiles", history.tiles, name="tiles"),
    path("history/selection", selection.selection, name="selection"),
    path("history/<uuid:generation_id>/", generation.generation, name="generation"),
    path("history/<uuid:generation_id>/cancel", generation.cancel, name="cancel"),
    path("history/<uuid:generation_id>/favourite", selection.favourite, name="favourite"),
    path("history/<uuid:generation_id>/delete", trash.delete, name="delete"),
    path("trash/", trash.trash, name="trash"),
    path("trash/restore", trash.restore, name="restore"),
    path("trash/<uuid:generation_id>/delete", trash.delete_now, name="delete-now"),
    path("trash/empty", trash.empty, name="empty-trash"),
]
