"""Errors that are answered before Django has the request."""

import re
from typing import Any

from generation.asgi.paths import API_PATHS, OPENAI_PATHS
from generation.asgi.types import ERROR_CODE, Message, Scope, Send, header, send_json, send_text
from generation.parameters import ErrorCode, Refusal
from generation.responses import error_body, openai_error_body


def error_content(path: str, code: ErrorCode, message: str) -> dict[str, Any]:
    """Return the JSON body of an error whose status is not 422, in the shape that clients of this path expect."""
    if re.match(OPENAI_PATHS, path):
        return openai_error_body(code.status, message, code)
    return error_body(code, message)


def with_error_code(send: Send, code: ErrorCode) -> Send:
    """Return a `send` whose response has this code for the counters."""

    async def send_with_code(message: Message) -> None:
        await send({**message, ERROR_CODE: code} if message["type"] == "http.response.start" else message)

    return send_with_code


async def send_refusal(scope: Scope, refusal: Refusal, send: Send) -> None:
    """Answer with a refusal: JSON for clients of the API and for scripts, else a line of text."""
    status, headers = refusal.code.status, refusal.headers
    content = error_content(scope["path"], refusal.code, refusal.message)
    send = with_error_code(send, refusal.code)
    if re.match(API_PATHS, scope["path"]):
        await send_json(send, status, content, headers)
    elif header(scope, b"x-requested-with"):
        # As the studio shows errors: those of the whole form.
        await send_json(send, status, {**content, "errors": {"": [refusal.message]}}, headers)
    else:
        await send_text(send, status, refusal.message, headers)
