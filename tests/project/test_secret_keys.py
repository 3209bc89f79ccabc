"""Secret keys: short ones are refused, sessions outlive a change, addresses have a key of their own."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.http import QueryDict

from generation import signatures
from tests.support.environment import ROOT
from tests.support.service import Service

LONG = "0123456789 abcdefghijklmnopqrstuvwxyz"
PRINT = "from django.conf import settings; print(settings.SECRET_KEY, *settings.URL_SECRET_KEYS, sep='|')"


def print_keys(data_dir: Path, code: str = PRINT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "dreamsite.settings",
            "DATA_DIR": str(data_dir),
            **environment,
        },
        capture_output=True,
        text=True,
    )


def keys(data_dir: Path, **environment: str) -> list[str]:
    return print_keys(data_dir, **environment).stdout.strip().split("|")


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("SECRET_KEY", "SECRET_KEY"),
        ("SECRET_KEY_FALLBACKS", "A key of SECRET_KEY_FALLBACKS"),
        ("URL_SECRET_KEY", "URL_SECRET_KEY"),
        ("WATERMARK_KEY", "WATERMARK_KEY"),
    ],
)
def test_a_key_of_less_than_32_bytes_is_refused_in_one_line(tmp_path: Path, variable: str, name: str) -> None:
    finished = print_keys(tmp_path, **{variable: "x" * 31})
    assert finished.returncode == 1
    assert finished.stderr == f"{name} has less than 32 bytes; create one with: openssl rand -base64 48\n"
    assert print_keys(tmp_path, **{variable: "x" * 32}).returncode == 0


def test_a_file_that_lost_its_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    assert f"The file {tmp_path}/secret_key has less than 32 bytes" in print_keys(tmp_path).stderr


def test_keys_are_created_once_and_differ(tmp_path: Path) -> None:
    first = keys(tmp_path)
    assert len(set(first)) == 2
    assert keys(tmp_path) == first
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secret_key", "url_secret_key")]
    assert modes == [0o600, 0o600]


def test_watermarks_have_a_key_that_no_other_key_changes(tmp_path: Path) -> None:
    code = "from django.conf import settings; print(settings.WATERMARK_KEY)"
    key = print_keys(tmp_path, code).stdout.strip()
    path = tmp_path / "watermark_key"
    assert path.read_text() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert print_keys(tmp_path, code, SECRET_KEY=LONG, URL_SECRET_KEY=LONG).stdout.strip() == key


def test_hosts_that_share_a_key_agree_on_addresses(tmp_path: Path) -> None:
    assert keys(tmp_path, SECRET_KEY=LONG, SECRET_KEY_FALLBACKS=LONG * 2) == [LONG, LONG, LONG * 2]
    assert keys(tmp_path, SECRET_KEY=LONG, URL_SECRET_KEY=LONG * 2) == [LONG, LONG * 2]


def test_what_a_fallback_has_signed_still_counts(settings: Any) -> None:
    signed = signing.dumps("a session")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = LONG, [settings.SECRET_KEY]
    assert signing.loads(signed) == "a session"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(signing.BadSignature):
        signing.loads(signed)


def test_addresses_are_signed_by_a_key_of_their_own(settings: Any) -> None:
    query = QueryDict(signatures.signed_query("file", "outputs/a.png", 60))
    settings.SECRET_KEY = LONG
    assert signatures.seconds_left("file", "outputs/a.png", query) is not None
    settings.URL_SECRET_KEYS = [LONG * 2, *settings.URL_SECRET_KEYS]
    assert signatures.seconds_left("file", "outputs/a.png", query) is not None
    settings.URL_SECRET_KEYS = [LONG * 2]
    assert signatures.seconds_left("file", "outputs/a.png", query) is None


def test_the_first_password_is_in_a_file_and_in_no_log(service: Service) -> None:
    path = service.data_dir / "first_sign_in"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"  password   {service.password}\n" in path.read_text()
    assert str(path) in service.output
    assert service.password not in service.output
    assert service.token not in service.output
