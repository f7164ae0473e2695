"""Bounds what one HTTP connection may cost: its heads, its waiting, what it leaves unread; knows no route."""

import asyncio
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.runtime import metrics

HEAD_TOO_LARGE = b"The request's head is too large."
NOT_MODIFIED = 304
NOT_HTTP = "Invalid HTTP request received."
# ": " and a line end: what a header takes beside its name and value.
HEADER_FRAME_BYTES = 4


class ConnectionLimits(NamedTuple):
    """What a connection may cost before it is closed."""

    # Request line and headers; Anthropic's own front ends take no more than this.
    head_bytes_max: int = 128 * 1024
    # SDKs send about 25; each takes microseconds on every way that it goes.
    headers_max: int = 256
    # From a connection, or the first byte of a later head, to that head's end.
    head_s_max: float = 60.0
    # For a client to take what was sent to it, while its buffers are full.
    write_s_max: float = 300.0
    # Requests that wait on one connection for the answer before theirs; each costs 2 KB.
    pipelined_max: int = 64


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection, with an end to everything that it would wait for or gather.

    It never leaves HTTP/1: a client that offers to go on with another protocol (Java's offers h2c with
    its first request) is served as if it had not. uvicorn would lose the body of that request.
    """

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._is_in_head = False
        self._is_head_too_large = False
        self._is_replaying = False
        self._framing_bytes = 0
        self._served: RequestResponseCycle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as in uvicorn
        """Wait for the first head, but not for ever."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers, and tell the request that is being served."""
        self._head_timer = _cancelled(self._head_timer)
        self._write_timer = _cancelled(self._write_timer)
        self._unset_keepalive_if_required()  # or it would hold all this for 75 s more
        if self._served is not None and not self._served.response_complete:
            # uvicorn tells only the last request that came, which may be waiting behind this one.
            self._served.disconnected = True
            self._served.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head, a chunk's own line or the trailers go beyond a head's limit.

        The parser itself has none. `_framing_bytes` is what came since the last of them ended, or since
        there was a piece of a body.
        """
        self._unset_keepalive_if_required()
        self._framing_bytes += len(data)
        rest = data
        while rest and not self.transport.is_closing():
            rest = self._read(rest)
        if self._framing_bytes > self._limits.head_bytes_max:
            self._is_head_too_large = True
            self.send_400_response(NOT_HTTP)

    def on_message_begin(self) -> None:
        """Begin to count and to time a head."""
        if self._is_replaying:
            return
        super().on_message_begin()
        self._is_in_head = True
        self._framing_bytes = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        """Gather the request's target."""
        if not self._is_replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a header; a trailer is dropped, or it would pass for one that nobody has looked at."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Serve the request, in the framing that its version of HTTP knows."""
        if self._is_replaying:
            return
        self._is_in_head = False
        self._framing_bytes = 0
        self._head_timer = _cancelled(self._head_timer)
        sizes = (len(name) + len(value) + HEADER_FRAME_BYTES for name, value in self.headers)
        if (
            len(self.url) + sum(sizes) > self._limits.head_bytes_max
            or len(self.headers) > self._limits.headers_max
        ):
            self._is_head_too_large = True
            raise ValueError("the head is too large")  # the parser stops, and what fed it refuses
        super().on_headers_complete()
        # uvicorn offers no place to choose it
        self.cycle.__class__ = _UntilClosed if self.scope["http_version"] == "1.0" else _Cycle
        if len(self.pipeline) > self._limits.pipelined_max:
            self._cut("pipelined")

    def on_body(self, body: bytes) -> None:
        """Gather a piece of the body."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body, unless the parser only stopped before it because of an upgrade."""
        self._framing_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or the head of one that is too large."""
        if self.transport.is_closing():
            return
        if not self._is_head_too_large:
            metrics.http_connections_cut.labels("not_http").inc()
            super().send_400_response(msg)
            return
        metrics.http_connections_cut.labels("head_too_large").inc()
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
        length = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(HEAD_TOO_LARGE)
        self.transport.write(head + length + HEAD_TOO_LARGE)
        self.transport.close()

    def pause_writing(self) -> None:
        """The client's buffers are full: give it time to take what is in them."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_s_max, self._cut, "slow_reader")

    def resume_writing(self) -> None:
        """The client has read on."""
        self._write_timer = _cancelled(self._write_timer)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one that has not taken its last answer by now never will."""
        if self.transport.get_write_buffer_size():
            self._cut("slow_reader")
        else:
            super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _read(self, data: bytes) -> bytes:
        """Give the parser what came, and back what is left where an upgrade has stopped it."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay()
            return data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self.send_400_response(NOT_HTTP)
        return b""

    def _stay(self) -> None:
        """Go on in HTTP/1 behind a head that offers an upgrade: a new parser is told its framing alone."""
        framing = [each for each in self.headers if each[0] in (b"content-length", b"transfer-encoding")]
        lines = b"".join(b"%s: %s\r\n" % each for each in framing)
        self.parser = httptools.HttpRequestParser(self)
        self._is_replaying = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
        self._is_replaying = False

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head_s_max, self._cut, "slow_head")

    def _cut(self, reason: str) -> None:
        metrics.http_connections_cut.labels(reason).inc()
        self.transport.abort()


class _Cycle(RequestResponseCycle):
    """An answer to HTTP/1.1."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "http.response.start" and message["status"] == NOT_MODIFIED:
            self.expected_content_length = 0  # the length that it gives is that of another answer


class _UntilClosed(_Cycle):
    """An answer to HTTP/1.0, which knows no chunks: where it has no length, its end is the connection's."""

    _has_no_length = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_no_length = all(name.lower() != b"content-length" for name, _ in message["headers"])
            self.chunked_encoding = False if self._has_no_length else None
        elif self._has_no_length:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
