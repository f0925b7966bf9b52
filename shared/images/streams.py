"""Split a stream of concatenated PNG or JPEG pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
LARGEST_PICTURE_BYTES = 256 << 20
CHUNK_BYTES = 1 << 16
# Markers of JPEG without a length (ITU-T T.81, table B.1).
START, END, SCAN = 0xD8, 0xD9, 0xDA
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


def pictures_in(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the bytes of every picture.

    ``read(size)`` returns at most ``size`` bytes that have arrived, b"" at the end. A PNG or JPEG
    is yielded as soon as it is complete. Anything else counts as one picture up to the end.
    """
    data = bytearray()
    ended = False
    while True:
        end = _end_of(data)
        if end is not None:
            yield bytes(data[:end])
            del data[:end]
            while bytes(data[:1]) in (b"\n", b"\r", b"\0"):  # separators between pictures
                del data[:1]
            continue
        if ended or len(data) > LARGEST_PICTURE_BYTES:
            break
        part = read(CHUNK_BYTES)
        ended = not part
        data += part
    if data:
        yield bytes(data)


def _end_of(data: bytearray) -> int | None:
    """Return where the first picture ends; None if that is not known yet."""
    if data.startswith(PNG):
        return _end_of_png(data)
    return _end_of_jpeg(data) if data.startswith(JPEG) else None


def _end_of_png(data: bytearray) -> int | None:
    at = len(PNG)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        at += size + 12
        if kind == b"IEND":
            return at if at <= len(data) else None
    return None


def _end_of_jpeg(data: bytearray) -> int | None:
    at = len(JPEG)
    while at + 2 <= len(data):
        if data[at] != 0xFF:  # compressed pixels, up to the next marker
            at = data.find(b"\xff", at)
            if at < 0:
                return None
            continue
        marker = data[at + 1]
        if marker == END:
            return at + 2
        if marker in (0x00, 0xFF) or marker in WITHOUT_LENGTH or marker == START:
            at += 1 if marker == 0xFF else 2
            continue
        if at + 4 > len(data):
            return None
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None
