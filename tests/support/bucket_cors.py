"""A bucket with rules of CORS, in front of an S3 server that has none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.server import ThreadingHTTPServer
from typing import NamedTuple
from xml.etree.ElementTree import Element, fromstring

import httpx

from tests.support.servers import QuietHandler


class _Rule(NamedTuple):
    origins: list[str]
    methods: list[str]
    headers: list[str]


class _Bucket(ThreadingHTTPServer):
    def __init__(self, s3_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.s3_url = s3_url
        self.rules: list[_Rule] = []


class _Handler(QuietHandler):
    """Answers as S3 does: Amazon S3 User Guide, "How does Amazon S3 evaluate the CORS configuration on a bucket?"."""

    server: _Bucket

    def do_PUT(self) -> None:  # noqa: N802
        """PutBucketCors, without its signature."""
        document = fromstring(self.rfile.read(int(self.headers["Content-Length"])))  # noqa: S314  sent by boto3
        self.server.rules = [_read_rule(rule) for rule in document.iterfind("{*}CORSRule")]
        self._answer(200, {})

    def do_OPTIONS(self) -> None:  # noqa: N802
        wanted = self.headers.get("Access-Control-Request-Headers", "")
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        rule = self._rule(self.headers["Access-Control-Request-Method"], names)
        if rule is None:
            self._answer(403, {})
            return
        allowed = {"Access-Control-Allow-Methods": ", ".join(rule.methods), "Access-Control-Allow-Headers": wanted}
        self._answer(200, self._allowed_origin(rule) | allowed)

    def do_GET(self) -> None:  # noqa: N802
        # The address is signed for the host that browsers name.
        answer = httpx.get(self.server.s3_url + self.path, headers={"Host": self.headers["Host"]})
        rule = self._rule("GET", [])
        headers = {"Content-Type": answer.headers["Content-Type"], **(self._allowed_origin(rule) if rule else {})}
        self._answer(answer.status_code, headers, answer.content)

    def _rule(self, method: str, headers: list[str]) -> _Rule | None:
        origin = self.headers.get("Origin", "")
        for rule in self.server.rules:
            is_origin = any(fnmatchcase(origin, pattern) for pattern in rule.origins)
            are_headers = all(any(fnmatchcase(name, pattern) for pattern in rule.headers) for name in headers)
            if is_origin and method in rule.methods and are_headers:
                return rule
        return None

    def _allowed_origin(self, rule: _Rule) -> dict[str, str]:
        return {"Access-Control-Allow-Origin": "*" if "*" in rule.origins else self.headers["Origin"]}

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _read_rule(rule: Element) -> _Rule:
    names = ("AllowedOrigin", "AllowedMethod", "AllowedHeader")
    return _Rule(*([str(element.text) for element in rule.iterfind(f"{{*}}{name}")] for name in names))


@contextmanager
def bucket_with_cors(s3_url: str) -> Iterator[str]:
    """Yield the address of an S3 service that passes on what it is asked, and applies the rules that are put there."""
    with _Bucket(s3_url) as bucket:
        threading.Thread(target=bucket.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{bucket.server_port}"
        finally:
            bucket.shutdown()
