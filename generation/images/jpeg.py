"""What is particular to JPEG (ITU-T T.81): scans that cost much time, and files that lack their end marker."""

import re

from generation.parameters import InvalidField

# A small file can cost much time: a scan of 51 bytes takes 2.5 ms to decode in a picture of 16 megapixels, so a file of 20 MB
# could occupy a processor for 15 minutes. Encoders write about ten scans; libtiff also stops at 100.
_MAX_SCANS = 100
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

START = b"\xff\xd8"
_END = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SCAN_START = b"\xff\xda"
_FILLER = b"\x5a\xc3" * 64


def check_scans(content: bytes) -> None:
    """Raise `InvalidField` for a JPEG of more than `_MAX_SCANS` scans."""
    if len(_SCAN.findall(content)) > _MAX_SCANS:
        raise InvalidField(
            "image", f"The JPEG is built of more than {_MAX_SCANS} scans; save it again with the usual settings"
        )


def with_ends(content: bytes) -> tuple[bytes, bytes] | None:
    """Complete a JPEG that lacks its end marker in two ways; None if it has one.

    The second way has other data before the marker. A decoder takes it for pixels if some are missing (T.81, sections B.1.1.2,
    F.2 and G.2), else skips it; so if both pictures are equal, nothing but the marker was missing.
    """
    last_scan = content.rfind(_SCAN_START)
    if last_scan < 0 or content.find(_END, last_scan) >= 0:
        return None
    # Bytes FF may stand before any marker (section B.1.1.2); here they are the first half of the marker.
    kept = content.rstrip(b"\xff")
    restarts = _RESTART.findall(kept, last_scan)
    # Where pixels are missing after a restart interval, the decoder expects the next of the eight restart markers first.
    restart = bytes((0xFF, 0xD0 + (restarts[-1][1] + 1) % 8 if restarts else 0xD0))
    return kept + _END, kept + _FILLER + restart + _FILLER + _END
