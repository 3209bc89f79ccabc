"""The OpenAPI document. Component names and the operation id are those of Livepeer's document for the same call."""

from functools import cache, lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from generation.images.kinds import ALLOWED
from generation.parameters import ErrorCode, ImageToImageParameters


@gzip_page
@cache_control(max_age=300)
@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """Serve the document, without authentication."""
    return HttpResponse(document(reverse("home")), content_type="application/json")


@lru_cache(maxsize=8)
def document(base: str = "/") -> bytes:
    """Return the document as JSON. `base` is the path that its paths begin after."""
    return bytes(OpenApiJsonRenderer().render({**_schema(), "servers": [{"url": base}]}))


@cache
def _schema() -> dict[str, Any]:
    """Return the document without its server. It depends only on the code, so it is built once."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.authentication.BearerAuthentication"
    name = "HTTPBearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "One of your API tokens: `dream_…`."}


_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Your id for this request: 1 to 64 letters, digits and `._:-`. It is kept beside ours, which is always new.",
    "schema": {"type": "string"},
}
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The id of this request, also in the server's log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "X-Should-Retry": {
        "description": "`false` if the same request would fail again, so that OpenAI's SDKs do not repeat it. Else absent.",
        "schema": {"type": "string", "const": "false"},
    },
    "RateLimit-Limit": {
        "description": "Requests that you may send within a minute; with status 429, the limit that was reached.",
        "schema": {"type": "string"},
    },
    "RateLimit-Remaining": {"description": "What is left of the limit.", "schema": {"type": "string"}},
    "RateLimit-Reset": {"description": "Seconds until more is left.", "schema": {"type": "integer"}},
}


class Body_genImageToImage(ImageToImageParameters):  # noqa: N801  a published name
    """A picture and the parameters. A field that is missing or empty has its default."""

    image: bytes = Field(description=f"The picture: {ALLOWED}, recognised by its content.")
    mask: bytes = Field(
        b"",
        description="What of the picture may change, as a picture of any of these kinds: white, or opaque where some of it is "
        "transparent. All else stays as it is, and the result has the size of the picture. Default: all may change.",
    )
    references: list[bytes] = Field(
        [],
        alias="images[]",
        description="Further pictures, for models that read several: see `max_images` of `GET /models`.",
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        fields = schema["properties"]
        for field in fields.values():
            if "anyOf" in field:
                # Forms have no null: an optional field can be left out, and has no default to document.
                field |= field.pop("anyOf")[0]
                del field["default"]
        del fields["mask"]["default"]
        first = {name: fields.pop(name) for name in ("prompt", "image", "mask", "images[]")}
        schema["properties"] = {**first, **fields}
        return schema


class Body_verifyPicture(BaseModel):  # noqa: N801  named like the other
    """A picture of anybody."""

    image: bytes = Field(description=f"The file as you have it: {ALLOWED}, recognised by its content.")


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Complete the document; a hook of drf-spectacular, for what decorators cannot express."""
    codes = "\n".join(f"- `{code.value}` ({code.status}): {code.meaning}" for code in ErrorCode)
    result["components"]["schemas"]["ErrorCode"]["description"] = f"{ErrorCode.__doc__}\n\n{codes}"
    result["components"] |= {"parameters": {"X-Request-Id": _REQUEST_ID}, "headers": _HEADERS}
    operations = [operation for path in result["paths"].values() for operation in path.values()]
    for operation in operations:
        _add_common_headers(operation)
    success = result["paths"]["/image-to-image"]["post"]["responses"]["200"]
    success["content"]["application/json"]["schema"]["x-speakeasy-name-override"] = "data"
    return result


def _add_common_headers(operation: dict[str, Any]) -> None:
    """Add `X-Request-Id` to every response, `X-Should-Retry` to errors, and the rate limit to those that know the user."""
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/X-Request-Id"})
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        knows_user = "security" in operation and status != "401"
        for name in _HEADERS:
            if status < "400" if name == "X-Should-Retry" else name.startswith("RateLimit") and not knows_user:
                continue
            headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})
