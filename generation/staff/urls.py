from django.urls import path

from generation.staff import review_desk, review_metrics

urlpatterns = [
    path("", review_desk.desk, name="review"),
    path("next", review_desk.next_item, name="review-next"),
    path("undo", review_desk.undo, name="review-undo"),
    path("metrics/", review_metrics.overview, name="review-metrics"),
    path("release", review_desk.release, name="review-release"),
    path("<int:image_id>/decide", review_desk.decide, name="review-decide"),
    path("<int:image_id>/<str:which>", review_desk.picture, name="review-picture"),
]
