"""The log as JSON lines, with `LOG_FORMAT=json`."""

import json
import logging
from datetime import UTC, datetime

from accounts import request_ids, traces


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON in ASCII, an exception with its traceback. What is empty is left out."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_ids.current(),
            "client_request_id": request_ids.of_client(),
            "trace_id": traces.trace_ids(),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
            "stack": self.formatStack(record.stack_info) if record.stack_info else "",
        }
        return json.dumps({name: value for name, value in line.items() if value})
