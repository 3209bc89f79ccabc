"""The secret keys of an installation: from settings, or created once in DATA_DIR."""

import secrets
from contextlib import suppress
from pathlib import Path

MIN_BYTES = 32
"""As many as an HMAC with SHA-256 has: a shorter key is the easier thing to guess (RFC 2104, section 3)."""


def checked(setting: str, key: str) -> str:
    """Return the key. Raises `SystemExit` if it is too short to be secret."""
    if len(key.encode()) < MIN_BYTES:
        raise SystemExit(f"{setting} has less than {MIN_BYTES} bytes; create one with: openssl rand -base64 48")
    return key


def given_or_created(setting: str, key: str, path: Path) -> str:
    """Return the key of a setting, or, if that is empty, the one in this file. Raises `SystemExit` as both do."""
    return checked(setting, key) if key else created_once(path)


def created_once(path: Path) -> str:
    """Return the key in this file. The link that creates it is atomic, so that two first starts use the same key.

    Raises `SystemExit` if it is too short to be secret.
    """
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return checked(f"The file {path}", path.read_text().strip())
