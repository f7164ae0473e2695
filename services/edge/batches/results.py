"""Reads the results of a batch line by line as they pass, and writes what each item used; holds no I/O."""

from collections.abc import Iterator

from schemas import topics
from schemas.batch_items import BatchOfItems, read_line, usage_of_item, usage_of_unreadable
from schemas.batches import BatchItem
from schemas.usage import UsageRecorded
from services.edge import events
from services.edge.tap.codings import Decoder, decoder_for
from services.runtime import metrics
from services.runtime.records import OutgoingRecord

# Of one line: a message of 128,000 tokens is below 1 MB, tool results may be far longer.
LINE_BYTES_MAX = 16 * 1024 * 1024
# Of usage records given at once: an entry of the spool has room for them.
GROUP_BYTES = 256 * 1024


class ResultsReader:
    """One download: `feed` what passes, and `end` where it was whole; CannotDecode for an unknown coding."""

    def __init__(self, coding: str, batch: BatchOfItems) -> None:
        self._decoder: Decoder = decoder_for(coding)
        self._batch = batch
        self._line = bytearray()
        self._line_number = 0
        self._is_too_long = False
        self._group: list[OutgoingRecord] = []
        self._group_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[list[OutgoingRecord]]:
        """Give the usage of the items on lines that are whole, in groups; CannotDecode as decoders do."""
        for piece in self._decoder.decode(chunk):
            yield from self._split(piece)
        if self._group:
            yield self._grouped()

    def end(self) -> Iterator[list[OutgoingRecord]]:
        """Give the usage of a last line without an end of its own."""
        if self._line or self._is_too_long:
            self._line_ends()
        if self._group:
            yield self._grouped()

    def _split(self, piece: bytes) -> Iterator[list[OutgoingRecord]]:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._go_on(part)
            self._line_ends()
            if self._group_bytes >= GROUP_BYTES:
                yield self._grouped()
        self._go_on(rest)

    def _go_on(self, part: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._line) + len(part) > LINE_BYTES_MAX
        if self._is_too_long:
            self._line.clear()
        else:
            self._line += part

    def _line_ends(self) -> None:
        self._line_number += 1
        line, is_too_long = bytes(self._line), self._is_too_long
        self._line.clear()
        self._is_too_long = False
        if not is_too_long and not line.strip():
            return
        event = None if is_too_long else self._usage(line)
        what = "too_long" if is_too_long else "unreadable" if event is None else "booked"
        metrics.edge_batch_items.labels(what).inc()
        event = event or usage_of_unreadable(self._batch, self._line_number)
        record = events.record(topics.USAGE, event, event.finished_at)
        self._group.append(record)
        self._group_bytes += len(record.value or b"")

    def _usage(self, line: bytes) -> UsageRecorded | None:
        result = read_line(line)
        if result is None:
            return None
        item = BatchItem(custom_id=result.custom_id)
        return usage_of_item(self._batch, self._line_number, result, item)

    def _grouped(self) -> list[OutgoingRecord]:
        group, self._group, self._group_bytes = self._group, [], 0
        return group
