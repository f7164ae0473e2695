"""Reads the usage out of an event stream as it passes; keeps O(1) state, and never raises."""

import msgspec

from schemas.codec import UNREADABLE
from schemas.usage_rules import CacheTtls, Reading, Usage, reading_of, text
from services.edge.tap.codings import CannotDecode, decoder_for
from services.edge.tap.messages import (
    BLOCK_DELTA,
    BLOCK_START,
    MESSAGE,
    MESSAGE_DELTA,
    MESSAGE_START,
    Message,
    MessageDelta,
)
from services.edge.tap.reading import output_floor, overwritten, unfinished
from services.edge.tap.sse import EventSplitter
from services.runtime import metrics

# Without these there is no usage: what stands in the way of one ends the reading.
ESSENTIAL_EVENTS = frozenset((b"message_start", b"message_delta", b"message_stop", b"error"))
# These make a reading better: one that cannot be read is passed over.
HELPFUL_EVENTS = frozenset((b"content_block_start", b"content_block_delta"))


class SseTap:
    """Watches an event stream: what it used, and how much of its output has passed."""

    is_long = False

    def __init__(self, content_encoding: str, cache_ttls: CacheTtls) -> None:
        self._decoder = decoder_for(content_encoding)
        self._cache_ttls: CacheTtls = cache_ttls
        self._events = EventSplitter(ESSENTIAL_EVENTS | HELPFUL_EVENTS)
        self._fault = ""
        self._start = Message()
        self._usage: Usage = {}
        self._model_fallen_back_to = ""
        self._has_totals = False
        self._has_output_since = False
        self._characters = 0
        self._thinking_tokens = 0
        self._stop_reason = ""
        self._error_type = ""
        self._is_stopped = False
        self.has_started = False
        self.is_complete = False

    @property
    def is_cut_short(self) -> bool:
        """A stream ends with message_stop or error."""
        return not self.is_complete and not self._fault

    def feed(self, chunk: bytes) -> None:
        """Read the events that the chunk completes."""
        if self._fault:
            return
        try:
            for piece in self._decoder.decode(chunk):
                for name, data in self._events.feed(piece):
                    self._read_event(name, data)
        except CannotDecode as exc:
            self._give_up(exc.reason)
        except UNREADABLE:
            self._give_up("undecodable")
        if self._events.oversized and self._events.oversized & ESSENTIAL_EVENTS and not self._fault:
            self._give_up("too_large")

    def read(self) -> Reading:
        """Give the totals of the last message_delta; of a stream that did not come so far, what is known."""
        reading = reading_of(self._usage, self._cache_ttls)
        is_whole = self._has_totals and (self._is_stopped or not self._has_output_since)
        if not (is_whole and self.has_started):
            reading = unfinished(reading, output_floor(self._characters, self._thinking_tokens))
        return msgspec.structs.replace(
            reading,
            model_served=text(self._model_fallen_back_to or self._start.model),
            message_id=text(self._start.id),
            stop_reason=text(self._stop_reason),
            error_type=text(self._error_type),
        )

    def _read_event(self, name: bytes, data: bytes) -> None:
        if name == b"content_block_delta":
            self._count_output(data)
        elif name == b"content_block_start":
            self._read_fallback(data)
        elif name == b"message_start":
            self._start = MESSAGE_START.decode(data).message
            self._usage = self._start.usage or {}
            self.has_started = True
        elif name == b"message_delta":
            self._read_totals(MESSAGE_DELTA.decode(data))
        elif name == b"message_stop":
            self._is_stopped = self.is_complete = True
        else:
            error = MESSAGE.decode(data).error
            self._error_type = error.type if error is not None else "api_error"
            self.is_complete = True

    def _count_output(self, data: bytes) -> None:
        """Count the characters that the model wrote; only their number is kept."""
        try:
            output = BLOCK_DELTA.decode(data).delta
        except UNREADABLE:
            return
        characters = len(output.text) + len(output.thinking) + len(output.partial_json)
        if characters or output.estimated_tokens:
            self._characters += characters
            self._thinking_tokens += max(output.estimated_tokens or 0, 0)
            self._has_output_since = True

    def _read_fallback(self, data: bytes) -> None:
        """See whether another model goes on from here: message_start has named the one that declined."""
        if b"fallback" not in data:
            return
        try:
            block = BLOCK_START.decode(data).content_block
        except UNREADABLE:
            return
        if block.type == "fallback" and block.to is not None:
            self._model_fallen_back_to = block.to.model

    def _read_totals(self, delta: MessageDelta) -> None:
        usage = delta.usage or {}
        self._usage = overwritten(self._usage, usage)
        if usage.get("output_tokens") is not None:
            self._has_totals = True
            self._has_output_since = False
        self._stop_reason = (delta.delta and delta.delta.stop_reason) or self._stop_reason

    def _give_up(self, reason: str) -> None:
        self._fault = reason
        metrics.edge_tap_faults.labels(reason).inc()
