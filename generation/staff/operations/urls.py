from django.urls import path

from generation.staff.operations import canaries, retention, views

urlpatterns = [
    path("", views.overview, name="operations"),
    path("live", views.live, name="operations-live"),
    path("pools/<str:pool>/pause", views.pause, name="operations-pause"),
    path("pools/<str:pool>/resume", views.resume, name="operations-resume"),
    path("command", views.send_command, name="operations-command"),
    path("commands/<int:command_id>", views.command_state, name="operations-command-state"),
    path("commands/<int:command_id>/cancel", views.cancel_download, name="operations-cancel"),
    path("remove-worker", views.remove_worker, name="operations-remove-worker"),
    path("retention/", retention.overview, name="operations-retention"),
    path("retention/<int:rule_id>/run", retention.run, name="operations-retention-run"),
    path("canaries/", canaries.overview, name="operations-canaries"),
    path("canaries/<int:canary_id>/accept", canaries.accept, name="operations-canary-accept"),
    path("hold", retention.hold, name="operations-hold"),
]
