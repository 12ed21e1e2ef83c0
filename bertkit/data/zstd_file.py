"""Zstandard files that notice when they were cut short."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import zstandard


class ZstdFile(io.RawIOBase):
    """The decompressed bytes of a zstd file, frame after frame.

    The library's own `stream_reader` takes a file that is cut short for one that has ended.

    Args:
        raw: the compressed file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame: Any = None  # the frame that is being decompressed
        self._compressed = b""
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with decompressed bytes and return how many there were; 0 at the end.

        Raises:
            EOFError: the file ends within a frame.
        """
        while not self._pending:
            if not self._compressed:
                self._compressed = self._raw.read(
                    1 << 11
                )  # little: text that repeats itself comes out very much longer
                if not self._compressed:
                    if self._frame is not None:
                        raise EOFError("the file ended before its last frame")
                    return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._pending = memoryview(self._frame.decompress(self._compressed))
            self._compressed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        length = min(len(buffer), len(self._pending))
        buffer[:length] = self._pending[:length]
        self._pending = self._pending[length:]
        return length
