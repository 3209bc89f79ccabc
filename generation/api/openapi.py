"""The OpenAPI document: its component names and operation id are those that Livepeer publishes for the same call."""

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from generation.parameters import ErrorCode, ImageToImageParameters


@gzip_page
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


_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "An id of yours: 1 to 64 letters, digits and `._:-`. Any other is replaced.",
    "schema": {"type": "string"},
}
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The id of this request, which the server's log names.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    },
    "RateLimit-Limit": {
        "description": "How many requests you may make within a minute; of 429, the limit that is reached.",
        "schema": {"type": "string"},
    },
    "RateLimit-Remaining": {"description": "How much of it is left.", "schema": {"type": "string"}},
    "RateLimit-Reset": {"description": "Seconds until there is more.", "schema": {"type": "integer"}},
}


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
    result["components"] |= {"parameters": {"X-Request-Id": _REQUEST_ID}, "headers": _HEADERS}
    operations = [operation for path in result["paths"].values() for operation in path.values()]
    for operation in operations:
        _tell_headers(operation)
    answer = result["paths"]["/image-to-image"]["post"]["responses"]["200"]
    answer["content"]["application/json"]["schema"]["x-speakeasy-name-override"] = "data"
    return result


def _tell_headers(operation: dict[str, Any]) -> None:
    """Add the headers that every answer has, or every answer to somebody known who has such a limit."""
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/X-Request-Id"})
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        for name in _HEADERS:
            if name == "X-Request-Id" or status != "401":
                headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})
