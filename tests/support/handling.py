"""What happens to a picture after it has left: it is compressed, scaled, cropped, and photographed off a screen by software."""

from collections.abc import Callable

from PIL import Image

from generation.images.encoding import decode, encode
from generation.parameters import OutputFormat


def as_file(picture: Image.Image, format_: OutputFormat, quality: int) -> Image.Image:
    """Return what is left of a picture in a file of this format and quality."""
    return decode(encode(picture, format_, quality))


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def without_edges(picture: Image.Image, share: float) -> Image.Image:
    """Return what is left when this share of width and height is cut off, a little more from the left and the top."""
    width, height = (round(side * (1 - share)) for side in picture.size)
    left, top = round(0.6 * (picture.width - width)), round(0.7 * (picture.height - height))
    return picture.crop((left, top, left + width, top + height))


def on_a_page(picture: Image.Image) -> Image.Image:
    """Return a picture with a light page around it, and a dark bar above."""
    page = Image.new("RGB", (picture.width + 131, picture.height + 202), (245, 245, 247))
    page.paste((20, 22, 30), (0, 0, page.width, 60))
    page.paste(picture, (67, 103))
    return page


HANDLING: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it was made": lambda picture: picture,
    "JPEG of quality 50": lambda picture: as_file(picture, OutputFormat.JPEG, 50),
    "WebP of quality 75": lambda picture: as_file(picture, OutputFormat.WEBP, 75),
    "half the size": lambda picture: scaled(picture, 0.5),
    "half the size, JPEG of quality 75": lambda picture: as_file(scaled(picture, 0.5), OutputFormat.JPEG, 75),
    "a tenth of width and height cut off": lambda picture: without_edges(picture, 0.1),
    "the same, JPEG of quality 50": lambda picture: as_file(without_edges(picture, 0.1), OutputFormat.JPEG, 50),
    "a tenth of the area left": lambda picture: without_edges(picture, 0.684),
    "screenshot, shown at 80 %, JPEG of quality 80": lambda picture: as_file(
        on_a_page(scaled(picture, 0.8)), OutputFormat.JPEG, 80
    ),
    "screenshot, shown at 127 %": lambda picture: on_a_page(scaled(picture, 1.27)),
    "screenshot of a phone, shown at 210 %, JPEG of quality 80": lambda picture: as_file(
        on_a_page(scaled(picture, 2.1)), OutputFormat.JPEG, 80
    ),
}
"""Ways of handling a picture, by what they leave of it."""
