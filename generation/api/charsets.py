"""Decode the texts of forms: by the charset that they name, or else by the ones that clients use without naming them."""

import encodings.aliases
import re
from contextlib import suppress

# The encodings that browsers know (WHATWG Encoding Standard, section 4.2), by Python's names. Other codecs of Python are not
# for texts of the web: some escape or compress, some take a time that grows with the square of the length.
_CODECS = (
    *("utf_8", "utf_16", "utf_16_be", "utf_16_le", "ascii", "latin_1", "gbk", "gb2312", "gb18030", "big5", "big5hkscs"),
    *("shift_jis", "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8_r", "koi8_u", "cp866", "cp874"),
    *("mac_roman", "mac_cyrillic"),
    *(f"iso8859_{number}" for number in (2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 15, 16)),
    *(f"cp125{number}" for number in range(9)),
)
# Browsers read ISO 8859-1 as Windows-1252, and drop the mark at the beginning of UTF-8.
_REPLACED = {"latin_1": "cp1252", "utf_8": "utf_8_sig"}
_CODEC_OF = {
    label: _REPLACED.get(codec, codec)
    for label, codec in (*encodings.aliases.aliases.items(), *((codec, codec) for codec in _CODECS))
    if codec in _CODECS
}
_MAX_LABEL = 40
# Never looked up by Python, which keeps every label that it was ever asked for.
_SEPARATOR = re.compile(r"[^a-z0-9]+")


def decode(content: bytes, *charsets: str) -> str:
    """Return the text by the first of these charsets that is known and fits, else by UTF-8, Windows-1252, or Latin-1.

    Never raises, and never replaces what does not fit.
    """
    for charset in (*charsets, "utf-8", "windows-1252"):
        if len(charset) > _MAX_LABEL:
            continue
        if codec := _CODEC_OF.get(_SEPARATOR.sub("_", charset.strip().lower())):
            with suppress(UnicodeError):
                return content.decode(codec)
    return content.decode("latin-1")
