from django.urls import path
from django.views.generic import TemplateView

from generation.api import schema, views

urlpatterns = [
    path("image-to-image", views.ImageToImage.as_view(), name="image-to-image"),
    path("image-to-image/", views.ImageToImage.as_view(schema=None)),
    path("generations/<uuid:generation_id>", views.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/cancel", views.Cancellation.as_view(), name="cancellation"),
    path("generations/<uuid:generation_id>/answer", views.HeldAnswer.as_view()),
    path("openapi.json", schema.openapi, name="openapi"),
    path("docs", TemplateView.as_view(template_name="generation/docs.html"), name="docs"),
]
