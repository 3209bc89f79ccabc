"""CSV downloads that are safe to open in a spreadsheet."""

import csv
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from tempfile import TemporaryFile
from typing import Any

from django.http import FileResponse

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_response(filename: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> FileResponse:
    """Return a download of these rows. They are written to a temporary file first, since they come from the database."""
    file = TemporaryFile()  # noqa: SIM115  the response closes it
    # Spreadsheets recognise UTF-8 by the byte order mark.
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([cell(value) for value in row] for row in rows)
    text.detach()
    file.seek(0)
    response = FileResponse(file, as_attachment=True, filename=filename, content_type="text/csv; charset=utf-8")
    response["Cache-Control"] = "no-store"
    return response


def cell(value: Any) -> Any:
    """Return the value for a spreadsheet: text that looks like a formula is prefixed with an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    text = str(value).replace("\0", "")
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text
