"""How large an upload may be, and what is stored of it, in pixels."""

from generation.parameters import InvalidField

MAX_SIDE = 65_500
"""Longest side of an upload in pixels: the limit of common JPEG encoders."""

MAX_INPUT_SIDE = 2048
"""Longest side of a stored input."""


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise `InvalidField` if a side has more than `MAX_SIDE` pixels, or width times height is more than `max_pixels`."""
    width, height = size
    if max(size) > MAX_SIDE:
        raise InvalidField(
            "image", f"The picture has {width} x {height} pixels; crop it to at most {MAX_SIDE} pixels a side"
        )
    # Pillow's own limit only warns, and applies to the whole process; it remains as a second check.
    if width * height > max_pixels:
        raise InvalidField("image", too_large(f"{width} x {height} pixels", max_pixels))


def too_large(size: str, max_pixels: int) -> str:
    return f"The picture has {size}; at most {max_pixels:,} pixels in all are allowed, so reduce it and send it again"
