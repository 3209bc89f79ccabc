"""The request of the studio's form as code: curl commands and a Python program."""

import shlex
from collections.abc import Mapping

TOKEN = "YOUR_TOKEN"


def curl(url: str, fields: Mapping[str, str], picture: str, picture_url: str = "") -> str:
    """Return commands that send this request with the file `picture`, which they download from `picture_url` first, if any."""
    lines = [f"-H 'Authorization: Bearer {TOKEN}'"]
    # With -F, a text that begins with @ or < would be the name of a file.
    lines += [f"--form-string {shlex.quote(f'{name}={value}')}" for name, value in fields.items()]
    # Quoted for curl too: it gives commas and semicolons in file names a meaning.
    escaped = picture.replace("\\", "\\\\").replace('"', '\\"')
    quoted = shlex.quote(f'image=@"{escaped}"')
    download = f"curl -o {shlex.quote(picture)} {shlex.quote(picture_url)}\n" if picture_url else ""
    return download + " \\\n  ".join([f"curl {shlex.quote(url)}", *lines, f"-F {quoted}"])


def python(url: str, fields: Mapping[str, str], picture: str, picture_url: str = "") -> str:
    """Return a program that sends this request with httpx and prints the pictures' addresses."""
    image = f"httpx.get({picture_url!r}).content" if picture_url else f'open({picture!r}, "rb")'
    data = "".join(f"        {name!r}: {value!r},\n" for name, value in fields.items())
    return (
        "import httpx\n\n"
        "response = httpx.post(\n"
        f"    {url!r},\n"
        f'    headers={{"Authorization": "Bearer {TOKEN}"}},\n'
        f"    data={{\n{data}    }},\n"
        f'    files={{"image": {image}}},\n'
        "    timeout=60,\n"
        ")\n"
        'print(response.raise_for_status().json()["images"])\n'
    )
