"""Bodies of forms as other programs than httpx send them, byte for byte."""

from tests.support.pictures import photo

BOUNDARY = "----form7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PICTURE = photo(128, 128)


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    """Return a part. `disposition` is what follows `form-data; ` in its Content-Disposition header."""
    lines = [f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def multipart(*parts: bytes, end: str = f"--{BOUNDARY}--\r\n") -> bytes:
    """Return the body of a form with these parts."""
    return b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY.encode(), each) for each in parts) + end.encode()


def form(*parts: bytes) -> bytes:
    """Return a form with these parts and, before them, the picture and what makes a quick request."""
    image = part('name="image"; filename="a.png"', PICTURE, "Content-Type: image/png")
    return multipart(image, part('name="num_inference_steps"', b"1"), *parts)
