"""What makes bytes plain text, UTF-8 without NULs, and what is said of bytes that are not."""

from __future__ import annotations

import codecs
from pathlib import Path

from bertkit.data.errors import DataError

# The UTF-32 marks come first: the little-endian one begins with that of UTF-16.
_FOREIGN_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
NOT_UTF_8 = (
    "not UTF-8; convert the file from its encoding (for example: iconv -f WINDOWS-1252 -t UTF-8), or leave it out if it is no "
    "text"
)
NUL_BYTE = "a NUL byte, so this is not UTF-8 text; convert the file if it is UTF-16, or leave it out if it is no text"


def refuse_broken_characters(text: str, where: str, column: str) -> None:
    """Make sure that a record's text holds no NUL, and can be written as UTF-8.

    Raises:
        DataError: it does, or it cannot.
    """
    if "\0" in text:
        raise DataError(f"{where}: a NUL character in column {column!r}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where}: half a surrogate pair in column {column!r}; remove it") from None


def refuse_foreign_byte_order_mark(path: str | Path, content: bytes) -> None:
    """Make sure that a file does not begin as UTF-16 or UTF-32 does.

    Raises:
        DataError: it does.
    """
    for mark, encoding in _FOREIGN_BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise DataError(f"{path} is {encoding} text; convert it: iconv -f {encoding} -t UTF-8")
