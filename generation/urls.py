from django.urls import path

from generation.pages import generation, history, selection, sheets, studio, trash

urlpatterns = [
    path("", studio.studio, name="home"),
    path("studio/estimate", studio.estimate, name="estimate"),
    path("studio/<uuid:generation_id>", studio.job, name="job"),
    path("sheets/<uuid:exploration_id>/", sheets.sheet, name="sheet"),
    path("sheets/<uuid:exploration_id>/cells", sheets.cells, name="sheet-cells"),
    path("sheets/<uuid:exploration_id>/cancel", sheets.cancel, name="sheet-cancel"),
    path("history/<uuid:generation_id>/events", studio.events, name="events"),
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
