"""The OpenAPI document: its component names and operation id are those that Livepeer publishes for the same call."""

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from generation.parameters import ErrorCode, ImageToImageParameters


@cache_control(max_age=300)
@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The document, for anybody."""
    return HttpResponse(document(), content_type="application/json")


@cache
def document() -> bytes:
    """The document as JSON. It depends on the code alone, so it is made once."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return bytes(OpenApiJsonRenderer().render(schema))


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.authentication.BearerAuthentication"
    name = "HTTPBearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token of yours: `dream_…`."}


class Body_genImageToImage(ImageToImageParameters):  # noqa: N801  a published name
    """A picture, and what shall become of it. A field that is left out or empty has its default."""

    image: bytes = Field(description="The picture: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF, judged by its bytes.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        fields = schema["properties"]
        for field in fields.values():
            if "anyOf" in field:
                # A form cannot say null: what may be None may be left out, and has no default to show.
                field |= field.pop("anyOf")[0]
                del field["default"]
        schema["properties"] = {"prompt": fields.pop("prompt"), "image": fields.pop("image"), **fields}
        return schema


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: what it cannot be told in other ways."""
    codes = "\n".join(f"- `{code.value}` ({code.status}): {code.meaning}" for code in ErrorCode)
    result["components"]["schemas"]["ErrorCode"]["description"] = f"{ErrorCode.__doc__}\n\n{codes}"
    answer = result["paths"]["/image-to-image"]["post"]["responses"]["200"]
    answer["content"]["application/json"]["schema"]["x-speakeasy-name-override"] = "data"
    return result
