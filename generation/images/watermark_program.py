"""A program that looks for the watermark of a picture within limits, for `generation.images.watermark_reading`.

Its standard input is a line of JSON with `size`, width and height, and `key` in hexadecimal digits, then the pixels, RGB. It
prints the payload in hexadecimal digits, or nothing if there is none.
"""

import json
import sys

from PIL import Image

from generation.images import watermark
from generation.images.decoder_program import limit


def main() -> None:
    options = json.loads(sys.stdin.buffer.readline())
    width, height = options["size"]
    key = bytes.fromhex(options["key"])
    # A first search imports what the limits keep from being opened.
    watermark.read(Image.effect_noise((64, 64), 40).convert("RGB"), key)
    limit(width * height)
    payload = watermark.read(Image.frombytes("RGB", (width, height), sys.stdin.buffer.read()), key)
    sys.stdout.write(payload.to_bytes().hex() if payload else "")


if __name__ == "__main__":
    main()
