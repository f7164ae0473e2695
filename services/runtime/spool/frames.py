"""Decides how an entry is written into a file and how a whole one is told from a torn one; holds no I/O."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

OPENED, STARTED, CLOSED, ADDED = 1, 2, 3, 4
"""The entries that an exchange may have; what is added is published in its turn and closes nothing."""

HEAD, MARK = 16, 17
"""What the spool notes for itself: how far it was when a file began, and what Kafka has acknowledged."""

# 0xff and 0xfe occur in no UTF-8 text, so that no event can hold what looks like a frame.
MARKER = b"\xff\xfeT\x01"
# An entry has two events of at most EVENT_BYTES_MAX; what claims to be longer is no frame.
FRAME_BYTES_MAX = 4 * 1024 * 1024

_OUTER = struct.Struct(">4sII")  # marker, bytes of the body, crc32 of the body
_INNER = struct.Struct(">QBB")  # seq, kind, bytes of the exchange's id


class Frame(NamedTuple):
    """One frame as it lies in a file, from `start` to `end`; for notes `exchange` is empty."""

    seq: int
    kind: int
    exchange: str
    blob: bytes
    start: int
    end: int


def framed(seq: int, kind: int, exchange: str, blob: bytes) -> bytes:
    """Write one frame: length, checksum, and what it holds."""
    name = exchange.encode()
    body = _INNER.pack(seq, kind, len(name)) + name + blob
    assert len(body) <= FRAME_BYTES_MAX, "events are cut to EVENT_BYTES_MAX before they are spooled"
    return _OUTER.pack(MARKER, len(body), zlib.crc32(body)) + body


def frames(data: bytes, base: int = 0) -> Iterator[Frame]:
    """Read whole frames until there is none; `base` is where in its file `data` begins."""
    at = 0
    while (body := _body(data, at)) is not None:
        end = at + _OUTER.size + len(body)
        seq, kind, length = _INNER.unpack_from(body)
        exchange = body[_INNER.size : _INNER.size + length].decode()
        yield Frame(seq, kind, exchange, body[_INNER.size + length :], base + at, base + end)
        at = end


def holds_frame(data: bytes, at: int) -> bool:
    """Say whether a whole frame begins anywhere from `at`: what precedes it is then damaged, not torn off."""
    while (at := data.find(MARKER, at)) >= 0:
        if _body(data, at) is not None:
            return True
        at += 1
    return False


def bytes_wanted(data: bytes) -> int:
    """Say how many bytes the frame at the beginning of `data` has; 0 where none begins there."""
    if len(data) < _OUTER.size:
        return 0
    marker, length, _ = _OUTER.unpack_from(data)
    return _OUTER.size + length if marker == MARKER and length <= FRAME_BYTES_MAX else 0


# Of a file without an entry: its head, in which stands how far the spool was.
HEAD_BYTES = len(framed(0, HEAD, "", bytes(8)))


def _body(data: bytes, at: int) -> bytes | None:
    if len(data) - at < _OUTER.size:
        return None
    marker, length, checksum = _OUTER.unpack_from(data, at)
    begin = at + _OUTER.size
    if marker != MARKER or not _INNER.size <= length <= FRAME_BYTES_MAX or begin + length > len(data):
        return None
    body = data[begin : begin + length]
    return body if zlib.crc32(body) == checksum else None
