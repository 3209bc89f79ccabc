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
from generation.asgi import paths

urlpatterns = [
    path(paths.IMAGE_TO_IMAGE, views.ImageToImage.as_view(), name="image-to-image"),
    path(f"{paths.IMAGE_TO_IMAGE}/", views.ImageToImage.as_view(schema=None)),
    path("generations", generations.GenerationList.as_view(), name="generation-records"),
    path("generations/<uuid:generation_id>", generations.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/images/<int:number>", generations.GenerationImage.as_view()),
    path("generations/<uuid:generation_id>/cancel", generations.Cancellation.as_view(), name="cancellation"),
    path(paths.GENERATION_EVENTS, events.GenerationEvents.as_view(), name="generation-events"),
    path(paths.GENERATION_ANSWER, views.HeldAnswer.as_view()),
    path(paths.IMAGE_EDITS, openai.ImageEdits.as_view(), name="image-edits"),
    path(f"{paths.IMAGE_EDITS}/", openai.ImageEdits.as_view(schema=None)),
    path(paths.IMAGE_EDITS_ANSWER, openai.HeldEdits.as_view()),
    path("models", catalog.Models.as_view(), name="models"),
    path("loras", catalog.Loras.as_view(), name="loras"),
    path("openapi.json", openapi.openapi, name="openapi"),
    path("docs", TemplateView.as_view(template_name="generation/api_docs.html"), name="docs"),
]
