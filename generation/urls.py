from django.urls import path

from generation.pages import downloads, generation, history, notes, selection, sharing, sheets, studio, trash, usage

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
    path("history/<uuid:generation_id>/notes", notes.annotate, name="annotate"),
    path("history/<uuid:generation_id>/<int:number>.<slug:extension>", downloads.download, name="download"),
    path("history/<uuid:generation_id>/share", sharing.share, name="share"),
    path("history/<uuid:generation_id>/share/<int:link_id>/revoke", sharing.revoke, name="revoke-share"),
    path("s/<str:code>", sharing.shared, name="shared"),
    path("s/<str:code>/picture", sharing.shared_picture, name="shared-picture"),
    path("s/<str:code>/preview.jpg", sharing.shared_preview, name="shared-preview"),
    path("trash/", trash.trash, name="trash"),
    path("trash/restore", trash.restore, name="restore"),
    path("trash/<uuid:generation_id>/delete", trash.delete_now, name="delete-now"),
    path("trash/empty", trash.empty, name="empty-trash"),
    path("usage/", usage.show, name="usage"),
]
