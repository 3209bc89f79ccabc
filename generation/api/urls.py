from django.urls import path
from django.views.decorators.cache import cache_page
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from generation.api import views

urlpatterns = [
    path("image-to-image", views.ImageToImage.as_view(), name="image-to-image"),
    path("image-to-image/", views.ImageToImage.as_view(schema=None)),
    path("generations/<uuid:generation_id>", views.GenerationDetail.as_view(), name="generation-record"),
    path("generations/<uuid:generation_id>/answer", views.HeldAnswer.as_view()),
    path("openapi.json", cache_page(3600)(SpectacularJSONAPIView.as_view()), name="openapi"),
    path("docs", SpectacularSwaggerView.as_view(url_name="openapi"), name="docs"),
]
