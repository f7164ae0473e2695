"""Reads the usage out of an answer that is one JSON document; never raises, and knows no event loop."""

import re

import msgspec

from schemas.lenient_json import decoded
from schemas.usage_rules import CacheTtls, Reading, reading_of, text
from services.edge.tap.codings import CannotDecode, decoder_for
from services.edge.tap.messages import MESSAGE
from services.runtime import metrics

MIB = 1024 * 1024
# A message as one JSON document: 128,000 output tokens are below 1 MB, tool results may be far longer.
JSON_BYTES_MAX = 64 * MIB
# What is read on the event loop: 1 MiB takes 0.3 ms where it is text, 1.2 ms where it is all brackets. A
# document in a coding may be sixteen times as long as it came. Beside the loop a decoder lets go of the
# interpreter; msgspec does not, which holds the loop up for some 15 ms where a document has 39 MB.
READ_ON_LOOP_BYTES_MAX = 1 * MIB
READ_ON_LOOP_CODED_BYTES_MAX = READ_ON_LOOP_BYTES_MAX // 16
# What is decoded in one step, so that a decoder never copies the rest of a long document again and again.
STEP_BYTES = 64 * 1024

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class JsonTap:
    """Watches one JSON document: a message, a count of tokens, or an error.

    The copy is kept as it came: decoding and reading it are left to `read`, which may run beside the loop.
    """

    has_started = False
    is_complete = False

    def __init__(self, content_encoding: str, cache_ttls: CacheTtls) -> None:
        decoder_for(content_encoding)  # it raises here, where another tap can be chosen, or never
        self._content_encoding = content_encoding
        self._is_coded = content_encoding.strip().lower() not in ("", "identity")
        self._cache_ttls: CacheTtls = cache_ttls
        self._copy = bytearray()
        self._is_too_large = False
        self._reading: Reading | None = None
        self._breaks_off = False

    @property
    def is_cut_short(self) -> bool:
        """A document ends with the bracket that it began with."""
        self.read()
        return self._breaks_off

    @property
    def is_long(self) -> bool:
        """Whether reading is still to be done, and may take longer than the event loop should be held."""
        bytes_max = READ_ON_LOOP_CODED_BYTES_MAX if self._is_coded else READ_ON_LOOP_BYTES_MAX
        return self._reading is None and len(self._copy) > bytes_max

    def feed(self, chunk: bytes) -> None:
        """Keep a copy, within JSON_BYTES_MAX."""
        self._reading = None
        self._is_too_large = self._is_too_large or len(self._copy) + len(chunk) > JSON_BYTES_MAX
        if self._is_too_large:
            self._copy.clear()
        else:
            self._copy += chunk

    def read(self) -> Reading:
        """Read the document; one that breaks off or is no JSON says nothing."""
        if self._reading is None:
            self._reading = self._read()
        return self._reading

    def _read(self) -> Reading:
        self._breaks_off = False
        try:
            document = self._document()
        except CannotDecode as exc:
            metrics.edge_tap_faults.labels(exc.reason).inc()
            return Reading()
        message = decoded(MESSAGE, document)
        self._breaks_off = message is None and _breaks_off(document)
        if message is None:
            if document:
                metrics.edge_tap_faults.labels("undecodable").inc()
            return Reading()
        if message.error is not None:
            return Reading(error_type=text(message.error.type))
        return msgspec.structs.replace(
            reading_of(message.usage or {}, self._cache_ttls),
            model_served=text(message.model),
            message_id=text(message.id),
            stop_reason=text(message.stop_reason),
        )

    def _document(self) -> bytearray:
        if self._is_too_large:
            raise CannotDecode("too_large")
        if not self._is_coded:
            return self._copy
        decoder = decoder_for(self._content_encoding)
        document = bytearray()
        for start in range(0, len(self._copy), STEP_BYTES):
            for piece in decoder.decode(bytes(self._copy[start : start + STEP_BYTES])):
                document += piece
                if len(document) > JSON_BYTES_MAX:
                    raise CannotDecode("too_large")
        return document


def _breaks_off(document: bytearray) -> bool:
    """Say whether a document that is no JSON would be one if it went on: a string or a bracket is open."""
    rest = _STRING.sub(b"", document)
    opened = rest.count(b"{") + rest.count(b"[")
    closed = rest.count(b"}") + rest.count(b"]")
    return b'"' in rest or opened > closed or not rest.strip()
