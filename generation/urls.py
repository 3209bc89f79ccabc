from django.urls import path

from generation.asgi import paths
from generation.pages import bulk_actions, contact_sheets, downloads, generation, history, notes, sharing, trash
from generation.pages.account import delete_account, export, settings, usage
from generation.pages.studio import estimates, views

urlpatterns = [
    path("", views.studio, name="home"),
    path("studio/estimate", estimates.estimate, name="estimate"),
    path("studio/picture", views.stored_picture, name="stored-picture"),
    path("studio/<uuid:generation_id>", views.job, name="job"),
    path("sheets/<uuid:contact_sheet_id>/", contact_sheets.sheet, name="sheet"),
    path("sheets/<uuid:contact_sheet_id>/cells", contact_sheets.cells, name="sheet-cells"),
    path("sheets/<uuid:contact_sheet_id>/cancel", contact_sheets.cancel, name="sheet-cancel"),
    path(paths.HISTORY_EVENTS, views.events, name="events"),
    path("history/", history.history, name="history"),
    path("history/tiles", history.tiles, name="tiles"),
    path("history/selection", bulk_actions.selection, name="selection"),
    path("history/matching", bulk_actions.matching, name="matching"),
    path("history/<uuid:generation_id>/", generation.generation, name="generation"),
    path("history/<uuid:generation_id>/cancel", generation.cancel, name="cancel"),
    path("history/<uuid:generation_id>/favourite", bulk_actions.favourite, name="favourite"),
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
    path("settings/", settings.settings, name="settings"),
    path("settings/theme", settings.theme, name="theme"),
    path("settings/export", export.page, name="export"),
    path("settings/export/<uuid:export_id>.zip", export.download, name="export-file"),
    path("settings/delete", delete_account.page, name="delete-account"),
    path("deleted/<uuid:deletion_id>", delete_account.receipt, name="account-deleted"),
]
