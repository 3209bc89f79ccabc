from django.urls import path
from django.views.generic import TemplateView

from generation.api import (
    catalog,
    events,
    generations,
    openai,
    openapi,
    views,
)

urlpatterns = [
    path("image-to-image", views.ImageToImage.as_view(), name="image-to-image"),
    path("image-to-image/", views.ImageToImage.as_view(schema=None)),
    path("generations", generations.GenerationList.as_view(), name="generation-records"),
    path("generations/<uuid:generation_id>", generations.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/images/<int:number>", generations.GenerationImage.as_view()),
    path("generations/<uuid:generation_id>/cancel", generations.Cancellation.as_view(), name="cancellation"),
    path("generations/<uuid:generation_id>/events", events.GenerationEvents.as_view(), name="generation-events"),
    path("generations/<uuid:generation_id>/answer", views.HeldAnswer.as_view()),
    path("v1/images/edits", openai.ImageEdits.as_view(), name="image-edits"),
    path("v1/images/edits/", openai.ImageEdits.as_view(schema=None)),
    path("v1/images/edits/<uuid:generation_id>/answer", openai.HeldEdits.as_view()),
    path("models", catalog.Models.as_view(), name="models"),
    path("loras", catalog.Loras.as_view(), name="loras"),
    path("openapi.json", openapi.openapi, name="openapi"),
    path("docs", TemplateView.as_view(template_name="generation/api_docs.html"), name="docs"),
]
