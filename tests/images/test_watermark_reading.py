"""The process that looks for watermarks: what it finds, and what happens when it ends without an answer."""

from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from PIL import Image

from generation.images import watermark, watermark_reading
from generation.images.watermark_payload import Payload
from generation.images.watermark_reading import ReadingFailed
from tests.support.environment import ROOT
from tests.support.service import wait_until

KEY = b"the key of this site"
PAYLOAD = Payload.of(KEY, "a recipe")


def photo() -> Image.Image:
    return Image.open(ROOT / "dreamsite/static/sample.jpg").convert("RGB")


def test_it_finds_what_is_there() -> None:
    marked = watermark.embed(photo(), PAYLOAD, KEY)
    assert watermark_reading.read(marked, KEY) == PAYLOAD
    assert watermark_reading.read(marked.reduce(2), KEY) == PAYLOAD
    assert watermark_reading.read(photo(), KEY) is None


def test_a_large_picture_without_a_watermark_stays_within_the_limits() -> None:
    assert watermark_reading.read(photo().resize((6000, 4000)), KEY) is None


def test_a_search_that_is_killed_fails() -> None:
    """As the kernel kills it when it has used its time, or the machine has no memory left."""

    def searches() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if watermark_reading.PROGRAM in child.cmdline()]

    with ThreadPoolExecutor(1) as pool:
        search = pool.submit(watermark_reading.read, photo().resize((6000, 4000)), KEY)
        wait_until(searches, "a search")
        searches()[0].kill()
        with pytest.raises(ReadingFailed):
            search.result()
