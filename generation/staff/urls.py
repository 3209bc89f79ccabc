from django.urls import path

from generation.staff import cockpit, insight

urlpatterns = [
    path("", cockpit.cockpit, name="review"),
    path("next", cockpit.upcoming, name="review-next"),
    path("undo", cockpit.undo, name="review-undo"),
    path("insight/", insight.insight, name="review-insight"),
    path("leave", cockpit.leave, name="review-leave"),
    path("<int:image_id>/decide", cockpit.decide, name="review-decide"),
    path("<int:image_id>/<str:which>", cockpit.picture, name="review-picture"),
]
