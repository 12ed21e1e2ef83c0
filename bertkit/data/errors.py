"""What is wrong with somebody's text, in one line that says where and what would do."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard


class DataError(ValueError):
    """Something about the text that its owner can put right: the message says where and how, in one line."""


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read or decompressed into a DataError of one line.

    Args:
        path: the file, for the message.

    Raises:
        DataError: the file is not there, is damaged, or is cut short.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}; check the file, or write it anew") from error


def one_line(error: BaseException) -> str:
    """Return what an error says as one line, or else its name.

    Args:
        error: of any library.

    >>> one_line(OSError("no\\n  such file")), one_line(EOFError())
    ('no such file', 'EOFError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def listed(names: Iterable[str]) -> str:
    """Return names, as of columns, for a message of one line.

    >>> listed(["text", "two\\nlines"])
    "text, 'two\\\\nlines'"
    """
    return ", ".join(name if name.isprintable() else repr(name) for name in names)
