"""A real nginx on loopback with the site of `deploy/nginx.conf`, without TLS."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.environment import ROOT
from tests.support.servers import free_port
from tests.support.service import wait_until

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None and not os.environ.get("CI"), reason="no nginx here: install Debian's nginx-light"
)
"""With the variable `CI`, tests without nginx fail instead."""

# The tests may run as root, whose files no other user can read; else `user` has no effect.
_MAIN = """
user root; daemon off; pid nginx.pid; worker_processes 1; error_log error.log; events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
{site}
}}
"""


@contextmanager
def nginx(folder: Path, *upstreams: str, stored_files: Path | None = None) -> Iterator[str]:
    """Serve the site in front of `upstreams`, addresses with ports, and yield its URL. Logs are in `folder`.

    With `stored_files`, a directory, its location of stored files is included.
    """
    port = free_port()
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    secure = site[site.index("server {\n    listen 443") :]
    site = site[: site.index("server {\n    listen 80")] + re.sub(r"    ssl_\w+ .*\n", "", secure)
    changes = {
        "    server 127.0.0.1:8000;\n": "".join(f"    server {upstream} max_fails=0;\n" for upstream in upstreams),
        "    listen 443 ssl;": f"    listen 127.0.0.1:{port};",
        "    listen [::]:443 ssl;\n": "",
        "/var/log/nginx/": "",
        # A busy machine may send fewer requests in a second than nginx lets through: only the burst counts here.
        "rate=30r/s": "rate=1r/m",
    }
    for old, new in changes.items():
        assert old in site, old
        site = site.replace(old, new)
    if stored_files:
        begin = site.index("    # location /stored-files/ {")
        end = site.index("    # }\n", begin) + len("    # }\n")
        location = re.sub(r"^    # ", "    ", site[begin:end], flags=re.MULTILINE)
        assert "/var/lib/dreamsite/media/" in location
        site = site[:begin] + location.replace("/var/lib/dreamsite/media/", f"{stored_files}/") + site[end:]
    (folder / "nginx.conf").write_text(_MAIN.format(site=site))
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_listening(port), "nginx")
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
