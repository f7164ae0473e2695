"""Carries a whole reply as it will go over the wire, and shapes it as directives say; holds no I/O."""

from typing import Literal

import msgspec

from services.local.anthropic.directives import Directives
from services.local.anthropic.encoding import compress_chunks

Header = tuple[bytes, bytes]
Ending = Literal["complete", "cut", "stall"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as it is sent: each chunk in one write, then the ending.

    `complete` ends the body, `cut` closes the connection without ending it, `stall` sends nothing more and
    waits for the client to leave. Without a content-length header the body is sent in HTTP chunks. Where
    `answered` is false not even the status is sent. Header names go out in lower case.
    """

    status: int = 200
    headers: tuple[Header, ...] = ()
    chunks: tuple[bytes, ...] = ()
    latency_ms: int = 0
    chunk_delay_ms: int = 0
    ending: Ending = "complete"
    answered: bool = True


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
    if directives.cut_after_bytes is not None and directives.cut_after_bytes <= sum(map(len, chunks)):
        chunks, ending = _first_bytes(chunks, directives.cut_after_bytes), "cut"
    if directives.cut_before_answer:
        ending = "cut"
    if directives.stall:
        ending = "stall"
    return Reply(
        status=reply.status,
        headers=reply.headers,
        chunks=chunks,
        latency_ms=directives.latency_ms,
        chunk_delay_ms=directives.chunk_delay_ms,
        ending=ending,
        answered=not (directives.cut_before_answer or directives.stall),
    )


def _rechunked(body: bytes, chunk_bytes: int) -> tuple[bytes, ...]:
    return tuple(body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes))


def _first_bytes(chunks: tuple[bytes, ...], count: int) -> tuple[bytes, ...]:
    kept: list[bytes] = []
    for chunk in chunks:
        if count <= 0:
            break
        kept.append(chunk[:count])
        count -= len(chunk)
    return tuple(kept)
