"""Keeps one file of untouched record batches and a sparse index of it; never knows what a record means."""

import mmap
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

from services.local.kafka.batch import (
    HEADER_BYTES,
    BatchCorrupt,
    BatchHeader,
    bounds_at,
    header_at,
    is_whole,
)
from services.local.kafka.files import SegmentFiles

# One index entry (24 bytes of memory) per this much log: 1 GB of log costs 1.5 MB. A batch always starts
# less than this after the entry before it, so one read of this size finds any batch.
INDEX_INTERVAL_BYTES = 16 * 1024
SEGMENT_SUFFIX = ".log"
NO_TIMESTAMP_MS = -1


def segment_path(directory: Path, base_offset: int) -> Path:
    """Name the file of the segment that starts at `base_offset`."""
    return directory / f"{base_offset:020d}{SEGMENT_SUFFIX}"


class Segment:
    """A run of batches with ascending offsets in one file."""

    def __init__(self, path: Path, base_offset: int, files: SegmentFiles) -> None:
        self.path = path
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size_bytes = 0
        self.first_timestamp_ms = NO_TIMESTAMP_MS
        self.max_timestamp_ms = NO_TIMESTAMP_MS
        self._files = files
        self._offsets = array("q")
        self._positions = array("q")
        self._max_timestamps_before = array("q")

    def load(self, verify: bool) -> Iterator[tuple[BatchHeader, int]]:
        """Index the file, giving each batch's header and position; cut off a torn tail.

        `verify` also checks checksums and that no offset is missing: needed for the last segment, the only
        one that a crash can harm and that compaction never thins out.
        """
        descriptor = self._files.descriptor(self.path)
        file_bytes = os.fstat(descriptor).st_size
        if file_bytes:
            with mmap.mmap(descriptor, file_bytes, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
                yield from self._walk(view, verify)
        if self.size_bytes != file_bytes:
            os.ftruncate(self._files.descriptor(self.path), self.size_bytes)

    def append(self, batch: bytes | bytearray, header: BatchHeader) -> None:
        """Write one batch at the end; when this returns, a kill of the process cannot lose it."""
        descriptor = self._files.descriptor(self.path)
        view = memoryview(batch)
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], self.size_bytes + written)
        except OSError:
            os.ftruncate(descriptor, self.size_bytes)
            raise
        self._index(header)

    def read(self, offset: int, upper_offset: int, bytes_max: int) -> bytes:
        """Give whole batches from the one that holds `offset`, up to `upper_offset` and about `bytes_max`.

        The first batch is given even if it alone exceeds `bytes_max`, so that a reader always advances.
        """
        start = self.position_of(offset)
        stop = self.size_bytes if upper_offset >= self.next_offset else self.position_of(upper_offset)
        if start >= stop:
            return b""
        end = min(self._last_boundary(start, bytes_max), stop)
        return os.pread(self._files.descriptor(self.path), end - start, start)

    def batch_at(self, position: int) -> bytes:
        """Give the one whole batch that starts at `position`."""
        descriptor = self._files.descriptor(self.path)
        header = header_at(os.pread(descriptor, HEADER_BYTES, position))
        return os.pread(descriptor, header.size_bytes, position)

    def position_of(self, offset: int) -> int:
        """Find where the first batch starts that ends at or after `offset`, else the file's end."""
        entry = max(bisect_right(self._offsets, offset) - 1, 0)
        position = self._positions[entry] if self._positions else 0
        for batch_position, last_offset, size_bytes, _ in self._batches_after(position):
            if last_offset >= offset:
                return batch_position
            position = batch_position + size_bytes
        return position

    def positions_at_time(self, timestamp_ms: int) -> Iterator[int]:
        """Give where batches start whose latest record is at or after `timestamp_ms`, the first one first."""
        if timestamp_ms > self.max_timestamp_ms or not self._positions:
            return
        entry = max(bisect_left(self._max_timestamps_before, timestamp_ms) - 1, 0)
        position = self._positions[entry]
        while position < self.size_bytes:
            for batch_position, _, size_bytes, max_timestamp in self._batches_after(position):
                if max_timestamp >= timestamp_ms:
                    yield batch_position
                position = batch_position + size_bytes

    def delete(self) -> None:
        """Remove the file."""
        self._files.forget(self.path)
        self.path.unlink(missing_ok=True)

    def _walk(self, view: memoryview, verify: bool) -> Iterator[tuple[BatchHeader, int]]:
        while self.size_bytes < len(view):
            position = self.size_bytes
            try:
                header = header_at(view, position)
            except BatchCorrupt:
                return
            if position + header.size_bytes > len(view) or header.base_offset < self.next_offset:
                return
            if verify and not self._is_sound(view, header, position):
                return
            self._index(header)
            yield header, position

    def _is_sound(self, view: memoryview, header: BatchHeader, position: int) -> bool:
        return header.base_offset == self.next_offset and is_whole(view, header, position)

    def _index(self, header: BatchHeader) -> None:
        if not self._positions or self.size_bytes >= self._positions[-1] + INDEX_INTERVAL_BYTES:
            self._offsets.append(header.base_offset)
            self._positions.append(self.size_bytes)
            self._max_timestamps_before.append(self.max_timestamp_ms)
        if self.first_timestamp_ms == NO_TIMESTAMP_MS:
            self.first_timestamp_ms = header.max_timestamp
        self.max_timestamp_ms = max(self.max_timestamp_ms, header.max_timestamp)
        self.next_offset = header.last_offset + 1
        self.size_bytes += header.size_bytes

    def _batches_after(self, position: int) -> Iterator[tuple[int, int, int, int]]:
        """Give (position, last offset, size, max timestamp) of the batches of one index interval."""
        chunk = os.pread(self._files.descriptor(self.path), INDEX_INTERVAL_BYTES + HEADER_BYTES, position)
        room = min(INDEX_INTERVAL_BYTES, self.size_bytes - position)
        relative = 0
        while relative < room:
            last_offset, size_bytes, max_timestamp = bounds_at(chunk, relative)
            yield position + relative, last_offset, size_bytes, max_timestamp
            relative += size_bytes

    def _last_boundary(self, start: int, bytes_max: int) -> int:
        """Find the last batch end within `bytes_max` of `start`, or the end of the first batch."""
        if start + bytes_max >= self.size_bytes:
            return self.size_bytes
        entry = bisect_right(self._positions, start + bytes_max) - 1
        boundary = max(self._positions[entry], start)
        for position, _, size_bytes, _ in self._batches_after(boundary):
            end = position + size_bytes
            if end > start + bytes_max:
                return end if position == start else boundary
            boundary = end
        return boundary
