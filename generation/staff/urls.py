from django.urls import path

from generation.staff import review_batch, review_desk, review_metrics

urlpatterns = [
    path("", review_desk.desk, name="review"),
    path("next", review_desk.next_item, name="review-next"),
    path("undo", review_desk.undo, name="review-undo"),
    path("status", review_desk.status, name="review-status"),
    path("batch/", review_batch.batch, name="review-batch"),
    path("batch/decide", review_batch.decide, name="review-batch-decide"),
    path("metrics/", review_metrics.overview, name="review-metrics"),
    path("release", review_desk.release, name="review-release"),
    path("<int:image_id>/decide", review_desk.decide, name="review-decide"),
    path("<int:image_id>/<str:which>", review_desk.picture, name="review-picture"),
]
