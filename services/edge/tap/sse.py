"""Splits a text/event-stream into the events that the meter wants; keeps O(1) state and never raises.

The rules are those of the HTML standard, section 9.2.6, as far as Anthropic's SDKs follow them: an event
without a name is ignored. Events that are not wanted are passed over without being kept.
"""

from collections.abc import Iterator
from typing import NamedTuple

# Of one line, in bytes: usage lines are below 10 KB, and message_start may echo a long container.
LINE_BYTES_MAX = 1024 * 1024


class Event(NamedTuple):
    """A wanted event: its name, and its data with the padding that Anthropic sends."""

    name: bytes
    data: bytes


class EventSplitter:
    """Takes the stream in any chunks and gives the wanted events as they are completed."""

    def __init__(self, wanted: frozenset[bytes]) -> None:
        self._wanted = wanted
        self._line = bytearray()
        self._is_skipping = False
        self._ends_in_cr = False
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self.oversized = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Read one chunk; a line longer than LINE_BYTES_MAX is counted in `oversized` and left out."""
        if self._ends_in_cr or b"\r" in chunk:
            chunk = self._normalised(chunk)
        position = 0
        while position < len(chunk):
            newline = chunk.find(b"\n", position)
            if newline < 0:
                self._keep(chunk[position:])
                return
            if self._is_skipping:
                self._is_skipping = False
            elif self._line:
                self._line += chunk[position:newline]
                line = bytes(self._line)
                self._line.clear()
                yield from self._read(line)
            else:
                yield from self._read(chunk[position:newline])
            position = newline + 1

    def _normalised(self, chunk: bytes) -> bytes:
        if self._ends_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._ends_in_cr = False
        if chunk:
            self._ends_in_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, part: bytes) -> None:
        """Hold the beginning of a line back, unless it is one that nobody wants."""
        if self._is_skipping:
            return
        self._line += part
        is_unwanted = self._name not in self._wanted and self._line.startswith(b"data:")
        if is_unwanted or len(self._line) > LINE_BYTES_MAX:
            self.oversized += not is_unwanted
            self._is_skipping = True
            self._line.clear()

    def _read(self, line: bytes) -> Iterator[Event]:
        if not line:
            if self._data:
                yield Event(self._name, b"\n".join(self._data))
                self._data.clear()
            self._data_bytes = 0
            self._name = b""
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line.startswith(b"data:") and self._name in self._wanted:
            self._data_bytes += len(line)
            if self._data_bytes <= LINE_BYTES_MAX:
                self._data.append(line[5:])
            else:
                self.oversized += 1
