"""A request of the studio as a program would send it: lines for a shell, and Python."""

import shlex
from collections.abc import Mapping

TOKEN = "YOUR_TOKEN"


def curl(url: str, fields: Mapping[str, str], picture: str, picture_url: str = "") -> str:
    """Commands that send this request; `picture` names the file, `picture_url` says where it is to be fetched before."""
    lines = [f"-H 'Authorization: Bearer {TOKEN}'"]
    # Not -F, which takes a text that begins with @ or < for the name of a file.
    lines += [f"--form-string {shlex.quote(f'{name}={value}')}" for name, value in fields.items()]
    # Quoted for curl too, to which commas and semicolons in names mean something.
    escaped = picture.replace("\\", "\\\\").replace('"', '\\"')
    quoted = shlex.quote(f'image=@"{escaped}"')
    fetched = f"curl -o {shlex.quote(picture)} {shlex.quote(picture_url)}\n" if picture_url else ""
    return fetched + " \\\n  ".join([f"curl {shlex.quote(url)}", *lines, f"-F {quoted}"])


def python(url: str, fields: Mapping[str, str], picture: str, picture_url: str = "") -> str:
    """A program that sends this request with httpx and prints where the pictures are."""
    image = f"httpx.get({picture_url!r}).content" if picture_url else f'open({picture!r}, "rb")'
    data = "".join(f"        {name!r}: {value!r},\n" for name, value in fields.items())
    return (
        "import httpx\n\n"
        "answer = httpx.post(\n"
        f"    {url!r},\n"
        f'    headers={{"Authorization": "Bearer {TOKEN}"}},\n'
        f"    data={{\n{data}    }},\n"
        f'    files={{"image": {image}}},\n'
        "    timeout=60,\n"
        ")\n"
        'print(answer.raise_for_status().json()["images"])\n'
    )
