"""Decode the HEIC picture on standard input, as a program that `generation.images.heif` runs with limits.

A process of its own, since a decoder of HEVC is large, written in C++, and again and again found unsafe; and since a small file
can make it work long and take much memory in many ways: overlays, tiles, alpha channels and metadata of any size and number.
"""

import base64
import io
import json
import resource
import sys

CPU_SECONDS = 10
"""A noisy photo of 12 megapixels takes 0.6 seconds."""

BASE_MEMORY = 300_000_000
MEMORY_PER_PIXEL = 16
"""Bytes of address space. The largest pictures with transparency need 11 a pixel."""

OUT_OF_MEMORY = 3
"""Exit code if the memory did not suffice."""


def main(max_pixels: int, max_side: int) -> None:
    """Write a line of JSON, and then the pixels of the primary picture, reduced to at most `max_side` pixels a side.

    JSON: `size`, the upright width and height before it was reduced; and, unless width times height is more than `max_pixels`,
    `mode` and `reduced`, the pixels' mode in Pillow, width and height, and `profile`, the ICC profile in Base64.
    """
    limits = {resource.RLIMIT_CPU: CPU_SECONDS, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    # macOS refuses any limit of address space.
    if sys.platform != "darwin":
        limits[resource.RLIMIT_AS] = BASE_MEMORY + MEMORY_PER_PIXEL * max_pixels
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))

    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    picture: Image.Image = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=["HEIF"])
    size = picture.size
    if size[0] * size[1] > max_pixels:
        sys.stdout.write(json.dumps({"size": size}) + "\n")
        return
    picture.load()
    if picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((max_side, max_side), Image.Resampling.HAMMING)
    profile = base64.b64encode(picture.info.get("icc_profile", b"")).decode()
    header = {"size": size, "mode": picture.mode, "reduced": picture.size, "profile": profile}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + picture.tobytes())


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
