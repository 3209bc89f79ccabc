"""Pages of other origins: the API, event streams and pictures, in the browser and over HTTP."""

import json
import re
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support import pictures
from tests.support.browser import WAIT_MILLISECONDS, needs_chromium
from tests.support.bucket_cors import bucket_with_cors
from tests.support.environment import ROOT
from tests.support.servers import s3_server
from tests.support.service import Service

POST = """async ([url, token]) => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
  const form = new FormData();
  form.append("prompt", "make it night");
  form.append("num_inference_steps", "1");
  form.append("image", await new Promise(resolve => canvas.toBlob(resolve)));
  const headers = {
    Authorization: `Bearer ${token}`, "X-Request-Id": "from-a-page", "Cancel-After": "1h", Prefer: "respond-async",
    "X-Stainless-Retry-Count": "0", "X-Of-The-Page": "1",
  };
  try {
    const answer = await fetch(`${url}/image-to-image`, {method: "POST", body: form, headers});
    const names = ["X-Client-Request-Id", "X-Generation-Id", "RateLimit-Remaining"];
    const seen = names.map(name => answer.headers.get(name));
    return {status: answer.status, record: await answer.json(), headers: seen};
  } catch (error) { return error.name; }
}"""
FOLLOW = """url => {
  window.events = [];
  const stream = new EventSource(url);
  for (const name of ["queued", "progress", "succeeded"])
    stream.addEventListener(name, event => events.push([name, JSON.parse(event.data)]));
  window.end = new Promise(resolve => {
    stream.onerror = () => {
      const names = events.map(event => event[0]);
      const isRepeated = names.indexOf("succeeded") !== names.lastIndexOf("succeeded");
      if (stream.readyState === EventSource.CLOSED || isRepeated) resolve(names);
    };
  });
}"""
PIXEL = """const pixelOf = picture => {
  const context = Object.assign(document.createElement("canvas"), {width: 64, height: 64}).getContext("2d");
  context.drawImage(picture, 0, 0);
  return [...context.getImageData(32, 32, 1, 1).data];
};"""
FETCH_PICTURE = f"""async ([url, headers]) => {{
  {PIXEL}
  try {{
    const answer = await fetch(url, {{headers}});
    return answer.ok ? pixelOf(await createImageBitmap(await answer.blob())) : answer.status;
  }} catch (error) {{ return error.name; }}
}}"""
LOAD_PICTURE = f"""async url => {{
  {PIXEL}
  const picture = Object.assign(new Image(), {{crossOrigin: "anonymous", src: url}});
  try {{ await picture.decode(); return pixelOf(picture); }} catch (error) {{ return error.name; }}
}}"""


def open_page(browser: Browser, origin: str) -> Page:
    page = browser.new_page()
    page.goto(origin)
    return page


@needs_chromium
def test_a_page_of_an_allowed_origin_can_follow_a_request_and_read_its_pictures(
    limited_service: Service, other_origin: str, browser: Browser
) -> None:
    page = open_page(browser, other_origin)
    with limited_service.paused_worker():
        answer = page.evaluate(POST, [limited_service.url, limited_service.token])
        assert answer["status"] == 202
        assert answer["headers"] == ["from-a-page", answer["record"]["id"], "59"]
        page.evaluate(FOLLOW, answer["record"]["events_url"])
        page.wait_for_function("events.length", timeout=WAIT_MILLISECONDS)
    names = page.evaluate("end")
    assert (names[0], names[-1], names.count("succeeded")) == ("queued", "succeeded", 1)
    url = page.evaluate("events")[-1][1]["images"][0]["url"]
    with Image.open(BytesIO(httpx.get(url).content)) as picture:
        pixel = list(picture.convert("RGBA").crop((32, 32, 33, 33)).tobytes())
    # The redirect is followed with the headers of the request, so the picture's address is asked for them, too.
    bearer = {"Authorization": f"Bearer {limited_service.token}", "X-Stainless-Lang": "js"}
    redirect = f"{limited_service.url}/generations/{answer['record']['id']}/images/0"
    assert page.evaluate(FETCH_PICTURE, [redirect, bearer]) == pixel
    # First without CORS, as the browser might have cached it.
    page.evaluate("url => Object.assign(new Image(), {src: url}).decode()", url)
    assert page.evaluate(LOAD_PICTURE, url) == pixel
    assert page.evaluate(FETCH_PICTURE, [url, {}]) == pixel
    assert page.evaluate(FETCH_PICTURE, [url.replace("signature=", "signature=0"), {}]) == 404


@needs_chromium
def test_a_page_of_another_origin_cannot(
    service: Service, limited_service: Service, other_origin: str, browser: Browser
) -> None:
    assert open_page(browser, other_origin).evaluate(POST, [service.url, service.token]) == "TypeError"
    page = open_page(browser, other_origin.replace("127.0.0.1", "localhost"))
    assert page.evaluate(POST, [limited_service.url, limited_service.token]) == "TypeError"
    form = {"prompt": "make it night", "num_inference_steps": "1"}
    with limited_service.client() as client:
        answer = client.post("/image-to-image", data=form, files={"image": pictures.photo(64, 64)}).json()
        with limited_service.paused_worker():
            files = {"image": pictures.photo(64, 64)}
            queued = client.post("/image-to-image", data=form, files=files, headers={"Prefer": "respond-async"}).json()
            page.evaluate(FOLLOW, queued["events_url"])
            assert page.evaluate("end") == []
    url = answer["images"][0]["url"]
    assert page.evaluate(LOAD_PICTURE, url) == "EncodingError"
    assert page.evaluate(FETCH_PICTURE, [url, {}]) == "TypeError"


def test_cors_applies_to_errors_and_only_to_the_api_and_pictures(limited_service: Service, other_origin: str) -> None:
    page = {"Origin": other_origin}
    for path, status in (("/generations", 401), ("/v1/nowhere", 404), ("/media/nothing.png", 404)):
        refused = httpx.get(limited_service.url + path, headers=page)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (status, other_origin)
        assert refused.headers["access-control-expose-headers"] == "*"
        assert "access-control-allow-credentials" not in refused.headers
        assert "origin" in refused.headers["vary"]
    compressed = {**page, "Authorization": f"Bearer {limited_service.token}", "Content-Encoding": "br"}
    refused = httpx.post(f"{limited_service.url}/generations/{uuid4()}/cancel", headers=compressed, content=b"x")
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (415, other_origin)
    for path in ("/history/", "/openapi.json", "/health", "/sign-in/"):
        assert "access-control-allow-origin" not in httpx.get(limited_service.url + path, headers=page).headers


def test_preflights_allow_all_headers_to_allowed_origins_alone(limited_service: Service, other_origin: str) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-stainless-os"}
    for path in ("/image-to-image", "/v1/images/edits", f"/generations/{uuid4()}", "/media/nothing.png"):
        answer = httpx.options(limited_service.url + path, headers={"Origin": other_origin, **preflight})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-headers"] == "authorization, *"
        answer = httpx.options(limited_service.url + path, headers={"Origin": "https://evil.example", **preflight})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_there_are_no_cors_headers_by_default(service: Service) -> None:
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{service.url}/image-to-image", headers=preflight)
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "vary" not in answer.headers


@needs_chromium
def test_the_documented_rule_lets_pages_read_pictures_from_a_bucket(
    other_origin: str, browser: Browser, tmp_path: Path
) -> None:
    (rules,) = re.findall(r"```json\n(\[.*?\])\n```", (ROOT / "docs" / "operate.md").read_text(), re.DOTALL)
    fields = {"prompt": "make it night", "num_inference_steps": "1"}
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server())
        bucket = stack.enter_context(bucket_with_cors(s3.url))
        environment = {
            **{"S3_BUCKET": s3.bucket, "S3_ENDPOINT_URL": s3.url, "S3_ADDRESSING_STYLE": "path"},
            **{"S3_ACCESS_KEY": s3.access_key, "S3_SECRET_KEY": s3.secret_key, "S3_PUBLIC_ENDPOINT_URL": bucket},
            **{"CORS_ORIGINS": other_origin, "WAIT_SECONDS": "180"},
        }
        service = stack.enter_context(Service(tmp_path, **environment))
        with service.client() as client:
            made = client.post("/image-to-image", data=fields, files={"image": pictures.photo(64, 64)}).json()
        url = made["images"][0]["url"]
        assert url.startswith(f"{bucket}/{s3.bucket}/")
        redirect = f"{service.url}/generations/{made['id']}/images/0"
        bearer = {"Authorization": f"Bearer {service.token}", "X-Stainless-Lang": "js"}
        page = open_page(browser, other_origin)
        assert page.evaluate(FETCH_PICTURE, [redirect, bearer]) == "TypeError"
        credentials = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
        api = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1", **credentials)
        # Raises for a rule that is not of S3's form.
        api.put_bucket_cors(Bucket=s3.bucket, CORSConfiguration={"CORSRules": json.loads(rules)})
        pixel = page.evaluate(FETCH_PICTURE, [url, {}])
        assert isinstance(pixel, list)
        assert page.evaluate(FETCH_PICTURE, [redirect, bearer]) == pixel
        assert page.evaluate(LOAD_PICTURE, url) == pixel
