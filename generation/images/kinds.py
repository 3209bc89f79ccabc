"""The kinds of uploads: which are taken, and the names of those that are not."""

import re

from PIL import Image

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
FORMATS = (*PILLOW_FORMATS, "HEIF")
HEIC_TYPES = ("image/heic", "image/heif")
HEIC_EXTENSIONS = (".heic", ".heif", ".hif")
ALLOWED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
DAMAGED = (
    "The picture is damaged, cut short, or of a variant that is not supported; "
    "save it again as PNG or JPEG and send that"
)

_UNSUPPORTED = (
    (re.compile(rb"(\xef\xbb\xbf)?\s*<"), "an SVG drawing or another XML or HTML text"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (
        re.compile(rb".{4}ftyp(mif1|msf1|heif|hevc|hevx|vvic|jpeg|j2ki)", re.DOTALL),
        "a HEIF file of another kind than HEIC and AVIF",
    ),
    (re.compile(rb".{4}ftyp(?!avi[fs])|\x1aE\xdf\xa3", re.DOTALL), "a video"),
    # Chromium 150 does not show it. pillow-jxl-plugin 1.3.8, the one decoder with wheels for all platforms here, is under the
    # GPL, tells the size only after decoding, gives the last frame of an animation, and loses shades by some profiles.
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), "a JPEG XL picture"),
    (re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  "), "a JPEG 2000 picture"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"[\t\n\r\x20-\x7e]{16}|[\t\n\r\x20-\x7e]+\Z"), "a text file"),
)

# Raw photos that begin like no other picture; those that begin like a TIFF without doubt are told by `generation.images.tiff`.
_RAW_PHOTOS = (
    (re.compile(rb".{4}ftypcrx ", re.DOTALL), "CR3"),
    (re.compile(rb"II\x2a\x00.{4}CR\x02", re.DOTALL), "CR2"),
    (re.compile(rb"II\x1a\x00\x00\x00HEAPCCDR"), "CRW"),
    (re.compile(rb"FUJIFILMCCD-RAW"), "RAF"),
    (re.compile(rb"IIR[OS]\x08|MMOR\x00"), "ORF"),
    (re.compile(rb"IIU\x00"), "RW2"),
    (re.compile(rb"FOVb"), "X3F"),
    (re.compile(rb"\x00MRM"), "MRW"),
)


def raw_photo(content: bytes) -> str | None:
    """Return the name of the kind of raw photo that the file is by its first bytes, such as "CR2"; None if it is none."""
    return next((name for pattern, name in _RAW_PHOTOS if pattern.match(content)), None)


def raw_photo_refusal(name: str) -> str:
    return (
        f"The file is a camera's raw photo ({name}), which must be developed first; "
        "export it as JPEG, PNG or TIFF in the camera's or a photo program, and send that"
    )


def unidentified(content: bytes) -> str:
    """Return what to tell about a file that Pillow does not open."""
    for pattern, kind in _UNSUPPORTED:
        if pattern.match(content):
            return f"The file looks like {kind}, which is not supported; send a {ALLOWED} picture"
    if any(accepts(content[:16]) is True for _, accepts in map(Image.OPEN.__getitem__, PILLOW_FORMATS) if accepts):
        return DAMAGED
    return f"The file is not a picture of a known kind, or its beginning is damaged; send a {ALLOWED} picture"
