from django.urls import path
from django.views.generic import TemplateView

from generation.api import discovery, events, history, openai, schema, views

urlpatterns = [
    path("image-to-image", views.ImageToImage.as_view(), name="image-to-image"),
    path("image-to-image/", views.ImageToImage.as_view(schema=None)),
    path("generations", history.GenerationList.as_view(), name="generation-records"),
    path("generations/<uuid:generation_id>", history.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/images/<int:number>", history.GenerationImage.as_view()),
    path("generations/<uuid:generation_id>/cancel", history.Cancellation.as_view(), name="cancellation"),
    path("generations/<uuid:generation_id>/events", events.GenerationEvents.as_view(), name="generation-events"),
    path("generations/<uuid:generation_id>/answer", views.HeldAnswer.as_view()),
    path("v1/images/edits", openai.ImageEdits.as_view(), name="image-edits"),
    path("v1/images/edits/", openai.ImageEdits.as_view(schema=None)),
    path("v1/images/edits/<uuid:generation_id>/answer", openai.HeldEdits.as_view()),
    path("models", discovery.Models.as_view(), name="models"),
    path("loras", discovery.Loras.as_view(), name="loras"),
    path("openapi.json", schema.openapi, name="openapi"),
    path("docs", TemplateView.as_view(template_name="generation/docs.html"), name="docs"),
]
