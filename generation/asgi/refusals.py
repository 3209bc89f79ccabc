"""Errors that are answered before Django has the request."""

import re
from typing import Any

from generation.asgi.paths import OPENAI_PATHS
from generation.parameters import ErrorCode
from generation.responses import error_body, openai_error_body


def error_content(path: str, code: ErrorCode, message: str) -> dict[str, Any]:
    """Return the JSON body of an error whose status is not 422, in the shape that clients of this path expect."""
    if re.match(OPENAI_PATHS, path):
        return openai_error_body(code.status, message, code)
    return error_body(code, message)
