"""Carries a whole reply as it will go over the wire, and shapes it as directives say; holds no I/O."""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from services.local.anthropic.directives import Directives
from services.local.anthropic.encoding import compress_chunks, compress_pieces

Header = tuple[bytes, bytes]
Ending = Literal["complete", "cut", "stall"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as it is sent: each chunk in one write, then the ending.

    `complete` ends the body, `cut` closes the connection without ending it, `stall` sends nothing more and
    waits for the client to leave. Without a content-length header the body is sent in HTTP chunks. Where
    `answered` is false not even the status is sent. Header names go out in lower case. Where `pieces` is
    given it is the body in place of `chunks`: one that is read or written while it is sent.
    """

    status: int = 200
    headers: tuple[Header, ...] = ()
    chunks: tuple[bytes, ...] = ()
    pieces: Iterable[bytes] | None = None
    latency_ms: int = 0
    chunk_delay_ms: int = 0
    ending: Ending = "complete"
    answered: bool = True


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """A body that is too long to hold, and what is said of it."""

    content_type: bytes
    content_bytes: int | None = None
    pieces: Iterator[bytes]


class BodyCut(Exception):
    """Raised by the pieces of a body in place of their end: the connection is to be closed here."""


class CannedReply(Reply, frozen=True, kw_only=True):
    """A reply that a test prepares, to be sent byte for byte to the next request whatever it asks."""


def whole_reply(status: int, headers: tuple[Header, ...], body: bytes, directives: Directives) -> Reply:
    """Shape a reply with one body of known length: a JSON message, an error."""
    coding = directives.coding
    if coding is not None:
        body = compress_chunks([body], coding, finish=True)[0]
        headers = (*headers, (b"content-encoding", coding.encode()))
    headers = (*headers, (b"content-length", b"%d" % len(body)))
    return _shaped(Reply(status=status, headers=headers, chunks=(body,)), directives)


def download_reply(
    status: int, headers: tuple[Header, ...], download: Download, directives: Directives
) -> Reply:
    """Shape a reply whose body is read while it is sent."""
    pieces: Iterable[bytes] = download.pieces
    headers = ((b"content-type", download.content_type), *headers)
    if directives.coding is not None:
        pieces = compress_pieces(pieces, directives.coding)
        headers = (*headers, (b"content-encoding", directives.coding.encode()))
    elif download.content_bytes is not None:
        headers = (*headers, (b"content-length", b"%d" % download.content_bytes))
    if directives.chunk_bytes is not None:
        pieces = _pieces_of(pieces, directives.chunk_bytes)
    if directives.cut_after_bytes is not None:
        pieces = _cut_pieces(pieces, directives.cut_after_bytes)
    return _shaped(Reply(status=status, headers=headers, pieces=pieces), directives)


def stream_reply(
    headers: tuple[Header, ...], events: list[bytes], failure: bytes | None, directives: Directives
) -> Reply:
    """Shape a reply of server-sent events; `failure` is the error event to send where one is scripted."""
    ending: Ending = "complete"
    if directives.error_event_after is not None and failure is not None:
        events = [*events[: directives.error_event_after], failure]
    if directives.cut_after_events is not None and directives.cut_after_events <= len(events):
        events, ending = events[: directives.cut_after_events], "cut"
    if directives.stall_after_events is not None and directives.stall_after_events <= len(events):
        events, ending = events[: directives.stall_after_events], "stall"
    if directives.coding is not None:
        events = compress_chunks(events, directives.coding, finish=ending == "complete")
        headers = (*headers, (b"content-encoding", directives.coding.encode()))
    return _shaped(Reply(headers=headers, chunks=tuple(events), ending=ending), directives)


def _shaped(reply: Reply, directives: Directives) -> Reply:
    chunks, ending = reply.chunks, reply.ending
    if directives.chunk_bytes is not None:
        chunks = _rechunked(b"".join(chunks), directives.chunk_bytes)
    cut_after = directives.cut_after_bytes if reply.pieces is None else None
    if cut_after is not None and cut_after <= sum(map(len, chunks)):
        chunks, ending = _first_bytes(chunks, cut_after), "cut"
    if directives.cut_before_answer:
        ending = "cut"
    if directives.stall:
        ending = "stall"
    return Reply(
        status=reply.status,
        headers=reply.headers,
        chunks=chunks,
        pieces=reply.pieces,
        latency_ms=directives.latency_ms,
        chunk_delay_ms=directives.chunk_delay_ms,
        ending=ending,
        answered=not (directives.cut_before_answer or directives.stall),
    )


def _rechunked(body: bytes, chunk_bytes: int) -> tuple[bytes, ...]:
    return tuple(body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes))


def _pieces_of(pieces: Iterable[bytes], piece_bytes: int) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= piece_bytes:
            yield bytes(held[:piece_bytes])
            del held[:piece_bytes]
    if held:
        yield bytes(held)


def _cut_pieces(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) >= count:
            if count:
                yield piece[:count]
            raise BodyCut
        count -= len(piece)
        yield piece


def _first_bytes(chunks: tuple[bytes, ...], count: int) -> tuple[bytes, ...]:
    kept: list[bytes] = []
    for chunk in chunks:
        if count <= 0:
            break
        kept.append(chunk[:count])
        count -= len(chunk)
    return tuple(kept)
