from django.urls import path
from django.views.generic import TemplateView

from generation.api import (
    catalog,
    events,
    generations,
    openapi,
    proofs,
    verify,
    views,
)
from generation.api.openai import edits
from generation.api.openai import models as openai_models
from generation.asgi import paths

urlpatterns = [
    path(paths.IMAGE_TO_IMAGE, views.ImageToImage.as_view(), name="image-to-image"),
    path(f"{paths.IMAGE_TO_IMAGE}/", views.ImageToImage.as_view(schema=None)),
    path("generations", generations.GenerationList.as_view(), name="generation-records"),
    path("generations/<uuid:generation_id>", generations.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/images/<int:number>", generations.GenerationImage.as_view()),
    path("generations/<uuid:generation_id>/cancel", generations.Cancellation.as_view(), name="cancellation"),
    path("generations/<uuid:generation_id>/prove", proofs.Prove.as_view(), name="proof"),
    path(paths.GENERATION_EVENTS, events.GenerationEvents.as_view(), name="generation-events"),
    path(paths.GENERATION_ANSWER, views.HeldAnswer.as_view()),
    path(paths.IMAGE_EDITS, edits.ImageEdits.as_view(), name="image-edits"),
    path(f"{paths.IMAGE_EDITS}/", edits.ImageEdits.as_view(schema=None)),
    path(paths.IMAGE_EDITS_ANSWER, edits.HeldEdits.as_view()),
    path("v1/models", openai_models.Models.as_view(), name="openai-models"),
    path("v1/models/", openai_models.Models.as_view(schema=None)),
    path("v1/models/<path:model_id>", openai_models.Model.as_view(), name="openai-model"),
    path("models", catalog.Models.as_view(), name="models"),
    path("loras", catalog.Loras.as_view(), name="loras"),
    path(paths.VERIFY, verify.Verify.as_view(), name="verify"),
    path("openapi.json", openapi.openapi, name="openapi"),
    path("docs", TemplateView.as_view(template_name="generation/api_docs.html"), name="docs"),
]
