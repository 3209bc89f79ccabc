"""Errors that are answered outside of the API's views."""

import re
from typing import Any

from generation.asgi.paths import OPENAI_PATHS
from generation.parameters import ErrorCode
from generation.responses import error_body, openai_error_body


def error_body_at(path: str, code: ErrorCode, message: str) -> dict[str, Any]:
    """Return the JSON body of an error at this path: as OpenAI's clients read it under `/v1`."""
    if re.match(OPENAI_PATHS, path):
        return openai_error_body(code.status, message, code)
    return error_body(code, message)
