"""How inputs are stored: without loss where that is not many times the upload, else as a JPEG of high quality."""

import io

from PIL import Image

from generation.images.uploads import InputFile, Upload

MAX_GROWTH = 2
"""How many times the bytes of its upload a file without loss may have."""

ALWAYS_LOSSLESS_BYTES = 256 * 1024
"""A file without loss of at most this many bytes is kept, however small its upload was."""

_JPEG_QUALITY = 95


def encode_input(upload: Upload) -> InputFile:
    """Encode the picture of an upload without metadata. A stored input that is used again is kept as it is, byte by byte."""
    if upload.stored:
        return upload.stored
    lossless = InputFile(encode_lossless(upload.picture), ".webp")
    if len(lossless.content) <= max(ALWAYS_LOSSLESS_BYTES, MAX_GROWTH * upload.length):
        return lossless
    jpeg = InputFile(encode_jpeg(upload.picture), ".jpg")
    return min(lossless, jpeg, key=lambda file: len(file.content))


def encode_lossless(picture: Image.Image) -> bytes:
    """Encode a picture as lossless WebP without metadata, at the fastest setting."""
    encoded = io.BytesIO()
    # For lossless WebP, quality means effort: the default takes ten times as long at 2048 x 1536 and saves nothing.
    picture.save(encoded, "WEBP", lossless=True, method=0, quality=0, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()


def encode_jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as JPEG with colours at full resolution: what was a JPEG loses about half a level of 255."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0, icc_profile=b"", exif=b"", comment=b"")
    return encoded.getvalue()
