"""Splits a text/event-stream into the events that the meter wants; keeps O(1) state and never raises.

The rules are those of the HTML standard, section 9.2.6, as far as Anthropic's SDKs follow them: an event
without a name is ignored. An event's name is expected before its data, as Anthropic writes them. Events
that are not wanted are passed over without being kept.
"""

from collections.abc import Iterator

# Of one event's data, in bytes: usage lines are below 10 KB, and message_start may echo a long container.
DATA_BYTES_MAX = 1024 * 1024

# In bytes: what a line must show before it is known whether anybody wants it.
_FIELD_BYTES = len(b"event:")

# A plain tuple: one is made for every token of every stream, and a named one costs twice as much.
Event = tuple[bytes, bytes]
"""The name of a wanted event, and its data with the padding that Anthropic sends."""


class EventSplitter:
    """Takes the stream in any chunks and gives the wanted events as they are completed.

    An event with more than DATA_BYTES_MAX is left out, and its name is in `oversized`.
    """

    def __init__(self, wanted: frozenset[bytes]) -> None:
        self._wanted = wanted
        self._line = bytearray()
        self._is_skipping = False
        self._ends_in_cr = False
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self.oversized: set[bytes] = set()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Read one chunk."""
        if self._ends_in_cr or b"\r" in chunk:
            chunk = self._normalised(chunk)
        lines = chunk.split(b"\n")
        beginning = lines.pop()
        if lines and (self._line or self._is_skipping):
            lines[0] = self._rejoined(lines[0])
        for line in lines:
            if not line:
                if self._data and self._name in self._wanted:
                    yield self._name, b"\n".join(self._data)
                self._name = b""
                self._data.clear()
                self._data_bytes = 0
            elif line.startswith(b"event:"):
                self._name = line[_FIELD_BYTES:].strip() if len(line) <= DATA_BYTES_MAX else b""
            elif self._name in self._wanted and line.startswith(b"data:"):
                self._keep(line)
        if beginning and not self._is_skipping:
            self._hold(beginning)

    def _normalised(self, chunk: bytes) -> bytes:
        if self._ends_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._ends_in_cr = False
        if chunk:
            self._ends_in_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _rejoined(self, end: bytes) -> bytes:
        """Give a line that ends here with its beginning; a comment where that was passed over."""
        line = b":" if self._is_skipping else bytes(self._line) + end
        self._is_skipping = False
        self._line.clear()
        return line

    def _hold(self, part: bytes) -> None:
        """Remember the beginning of a line, unless it is one that nobody wants."""
        self._line += part
        if len(self._line) < _FIELD_BYTES:
            return
        is_data = self._line.startswith(b"data:")
        is_wanted = self._name in self._wanted if is_data else self._line.startswith(b"event:")
        if is_wanted and len(self._line) <= DATA_BYTES_MAX:
            return
        if not is_data and is_wanted:
            self._name = b""
        elif is_wanted:
            self._overflow()
        self._is_skipping = True
        self._line.clear()

    def _keep(self, line: bytes) -> None:
        self._data_bytes += len(line)
        if self._data_bytes <= DATA_BYTES_MAX:
            self._data.append(line[5:])
        else:
            self._overflow()

    def _overflow(self) -> None:
        self.oversized.add(self._name)
        self._data.clear()
        self._data_bytes = DATA_BYTES_MAX + 1
