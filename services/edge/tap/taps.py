"""Watches the bytes of one answer pass and says what was used; never raises, never holds a byte up."""

from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog

from schemas.codec import UNREADABLE
from schemas.exchange import Operation
from services.edge.tap.codings import CannotDecode, Decoder, decoder_for
from services.edge.tap.reading import Reading, Usage, overwritten, reading_of, text
from services.edge.tap.sse import Event, EventSplitter
from services.runtime import metrics

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
# A message as one JSON document: 128,000 output tokens are below 1 MB, tool results may be far longer.
JSON_BYTES_MAX = 64 * MIB

WANTED_EVENTS = frozenset((b"message_start", b"message_delta", b"message_stop", b"error"))


class Tap(Protocol):
    """One answer being watched."""

    @property
    def has_started(self) -> bool:
        """Whether message_start has been read, so that there is usage to keep even if the rest is lost."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the client now holds, or is about to hold, a whole answer although more bytes may come."""
        ...

    @property
    def is_cut_short(self) -> bool:
        """Whether the answer would be incomplete if it ended here; False where that cannot be told."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Watch one chunk pass."""
        ...

    def read(self) -> Reading:
        """Say what was used, as far as it is known."""
        ...


class _Error(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    usage: dict[str, object] | None = None
    type: str = ""
    error: _Error | None = None


class _MessageStart(msgspec.Struct):
    message: _Message


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct):
    delta: _Delta | None = None
    usage: dict[str, object] | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_MESSAGE_START = msgspec.json.Decoder(_MessageStart)
_MESSAGE_DELTA = msgspec.json.Decoder(_MessageDelta)


class Blind:
    """Watches nothing: for answers that carry no usage, such as files."""

    has_started = False
    is_complete = False
    is_cut_short = False

    def feed(self, chunk: bytes) -> None:
        """Let it pass."""

    def read(self) -> Reading:
        """There is nothing to say."""
        return Reading()


class JsonTap:
    """Watches one JSON document: a message, a count of tokens, or an error."""

    has_started = False
    is_complete = False
    is_cut_short = False

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._document = bytearray()
        self._fault = ""

    def feed(self, chunk: bytes) -> None:
        """Keep a decoded copy, within JSON_BYTES_MAX."""
        if self._fault:
            return
        try:
            self._document += self._decoder.decode(chunk)
            if len(self._document) > JSON_BYTES_MAX:
                raise CannotDecode("too_large")
        except CannotDecode as exc:
            self._fault = exc.reason
            self._document.clear()
            metrics.edge_tap_faults.labels(exc.reason).inc()

    def read(self) -> Reading:
        """Read the document; one that breaks off or is no JSON says nothing."""
        if self._fault or not self._document:
            return Reading()
        try:
            message = _MESSAGE.decode(self._document)
        except UNREADABLE:
            metrics.edge_tap_faults.labels("undecodable").inc()
            return Reading()
        if message.error is not None:
            return Reading(error_type=text(message.error.type))
        return msgspec.structs.replace(
            reading_of(message.usage or {}, "final"),
            model_served=text(message.model),
            message_id=text(message.id),
            stop_reason=text(message.stop_reason),
        )


class SseTap:
    """Watches an event stream for message_start, message_delta, message_stop and error."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._events = EventSplitter(WANTED_EVENTS)
        self._fault = ""
        self._start = _Message()
        self._usage: Usage = {}
        self._has_final_usage = False
        self._stop_reason = ""
        self._error_type = ""
        self.has_started = False
        self.is_complete = False

    @property
    def is_cut_short(self) -> bool:
        """A stream that began ends with message_stop or error."""
        return self.has_started and not self.is_complete and not self._fault

    def feed(self, chunk: bytes) -> None:
        """Read the events that the chunk completes."""
        if self._fault:
            return
        try:
            for event in self._events.feed(self._decoder.decode(chunk)):
                self._read_event(event)
        except CannotDecode as exc:
            self._give_up(exc.reason)
        except UNREADABLE:
            self._give_up("undecodable")
        if self._events.oversized and not self._fault:
            self._give_up("too_large")

    def read(self) -> Reading:
        """Give the usage of message_start as partial, or that of the last message_delta as final."""
        return msgspec.structs.replace(
            reading_of(self._usage, "final" if self._has_final_usage else "partial"),
            model_served=text(self._start.model),
            message_id=text(self._start.id),
            stop_reason=text(self._stop_reason),
            error_type=text(self._error_type),
        )

    def _read_event(self, event: Event) -> None:
        if event.name == b"message_start":
            self._start = _MESSAGE_START.decode(event.data).message
            self._usage = self._start.usage or {}
            self.has_started = True
        elif event.name == b"message_delta":
            delta = _MESSAGE_DELTA.decode(event.data)
            self._usage = overwritten(self._usage, delta.usage or {})
            self._has_final_usage = delta.usage is not None or self._has_final_usage
            self._stop_reason = (delta.delta and delta.delta.stop_reason) or self._stop_reason
        elif event.name == b"message_stop":
            self.is_complete = True
        else:
            error = _MESSAGE.decode(event.data).error
            self._error_type = error.type if error is not None else "api_error"
            self.is_complete = True

    def _give_up(self, reason: str) -> None:
        self._fault = reason
        metrics.edge_tap_faults.labels(reason).inc()


_METERED: Mapping[Operation, bool] = {"messages": True, "count_tokens": True}


def tap_for(operation: Operation, status: int, content_type: str, content_encoding: str) -> Tap:
    """Choose how to watch an answer by what was asked and what the answer says it is."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "text/event-stream" and operation == "messages":
            return SseTap(decoder_for(content_encoding))
        if kind == "application/json" and (operation in _METERED or status >= 400):
            return JsonTap(decoder_for(content_encoding))
    except CannotDecode as exc:
        metrics.edge_tap_faults.labels(exc.reason).inc()
    return Blind()
