"""Convert pictures to sRGB, from whatever their files say about their colours."""

import io

from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")


def to_srgb(picture: Image.Image, source: Image.Image, content: bytes) -> Image.Image:
    """Return a new picture in sRGB, mode RGBA if `picture` has that, else RGB.

    `picture` is of mode L, RGB, RGBA or CMYK, with the colours of `source`, which was opened from `content`. A profile that is
    damaged or for another kind of picture is ignored.
    """
    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    profile = source.info.get("icc_profile")
    if isinstance(profile, bytes):
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.buildTransform(embedded, _SRGB, picture.mode, mode).apply(picture)
        except (ImageCms.PyCMSError, OSError, ValueError):
            return picture.convert(mode)
    return picture.convert(mode)
