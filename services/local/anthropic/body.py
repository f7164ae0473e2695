"""Reads request bodies off the connection, long ones onto disk; never looks into them."""

import mmap
import tempfile
from collections.abc import Awaitable, Callable
from typing import cast

MEMORY_BYTES_MAX = 32 * 1024**2  # longer ones lie on disk; also the limit of most requests

Event = dict[str, object]
Receive = Callable[[], Awaitable[Event]]


async def read_body(receive: Receive, bytes_max: int) -> bytes | mmap.mmap | None:
    """Read a body, and of one that is too long just enough to tell; None when the client left."""
    pieces: list[bytes] = []
    read_bytes = 0
    while True:
        piece, more = await _piece(receive)
        if piece is None:
            return None
        pieces.append(piece)
        read_bytes += len(piece)
        if not more or read_bytes > bytes_max:
            return b"".join(pieces)
        if read_bytes > MEMORY_BYTES_MAX:
            return await _read_onto_disk(receive, pieces, bytes_max)


async def _read_onto_disk(receive: Receive, pieces: list[bytes], bytes_max: int) -> mmap.mmap | None:
    with tempfile.TemporaryFile(prefix="simulated-anthropic-") as disk:
        disk.writelines(pieces)
        pieces.clear()
        more = True
        while more and disk.tell() <= bytes_max:
            piece, more = await _piece(receive)
            if piece is None:
                return None
            disk.write(piece)
        disk.flush()
        return mmap.mmap(disk.fileno(), 0, access=mmap.ACCESS_READ)


async def _piece(receive: Receive) -> tuple[bytes | None, bool]:
    event = await receive()
    if event["type"] == "http.disconnect":
        return None, False
    return cast(bytes, event.get("body", b"")), bool(event.get("more_body", False))
