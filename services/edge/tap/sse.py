"""Splits a text/event-stream into the events that the meter wants; keeps O(1) state and never raises.

The rules are those of the HTML standard, section 9.2.6, as Anthropic's SDKs follow them: fields in any order,
any line end, comments, a byte order mark; an event without a name is nobody's.
"""

from collections.abc import Iterator

# Of one event's data, in bytes: usage lines are below 10 KB, and message_start may echo a long container.
DATA_BYTES_MAX = 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What a line must show before it is known whether its field is `event` or `data`.
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
        self._is_first_line = True
        self._is_skipping = False
        self._ends_in_cr = False
        self._name = b""
        self._data = b""
        self._more: list[bytes] = []
        self._data_bytes = 0
        self.oversized: set[bytes] = set()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Read one chunk."""
        if self._ends_in_cr or b"\r" in chunk:
            chunk = self._normalised(chunk)
        lines = chunk.split(b"\n")
        beginning = lines.pop()
        if lines and (self._line or self._is_skipping or self._is_first_line):
            lines[0] = self._rejoined(lines[0])
        for line in lines:
            if not line:
                # Only here is it known whether anybody wants it: a name may come behind its data.
                if 0 < self._data_bytes <= DATA_BYTES_MAX and self._name in self._wanted:
                    yield self._name, b"\n".join((self._data, *self._more)) if self._more else self._data
                self._reset()
            elif line[:5] == b"data:":
                self._keep(line[6:] if line[5:6] == b" " else line[5:])
            elif line[:6] == b"event:":
                self._name = line[7:] if line[6:7] == b" " else line[6:]
            elif line in (b"data", b"event"):
                self._take_bare(line)
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
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return line

    def _hold(self, part: bytes) -> None:
        """Remember the beginning of a line, unless it is one that nobody wants."""
        self._line += part
        if self._is_first_line:
            if _BYTE_ORDER_MARK.startswith(bytes(self._line)):
                return
            if self._line.startswith(_BYTE_ORDER_MARK):
                del self._line[: len(_BYTE_ORDER_MARK)]
            self._is_first_line = False
        if len(self._line) < _FIELD_BYTES:
            return
        is_data = self._line.startswith(b"data:")
        if not is_data and not self._line.startswith(b"event:"):
            self._pass_over()
        elif len(self._line) > _FIELD_BYTES + DATA_BYTES_MAX:
            if is_data:
                self._overflow()
            else:
                self._name = b""
            self._pass_over()

    def _pass_over(self) -> None:
        self._is_skipping = True
        self._line.clear()

    def _keep(self, value: bytes) -> None:
        """Add a line of data to the event; its line end counts, as an empty line is data too."""
        if not self._data_bytes:
            self._data = value
        else:
            self._more.append(value)
        self._data_bytes += len(value) + 1
        if self._data_bytes > DATA_BYTES_MAX:
            self._overflow()

    def _overflow(self) -> None:
        self._data = b""
        self._more.clear()
        self._data_bytes = DATA_BYTES_MAX + 1

    def _take_bare(self, field: bytes) -> None:
        """Take a field without a colon: its value is empty."""
        if field == b"data":
            self._keep(b"")
        else:
            self._name = b""

    def _reset(self) -> None:
        if self._data_bytes > DATA_BYTES_MAX and self._name in self._wanted:
            self.oversized.add(self._name)
        self._name = self._data = b""
        self._data_bytes = 0
        if self._more:
            self._more.clear()
