"""Keeps one partition's log (appends, reads, retention, recovery); never alters an acknowledged record."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from services.local.kafka.batch import (
    BatchCorrupt,
    BatchHeader,
    ProducerId,
    Record,
    commits,
    control_batch,
    every_key_present,
    header_at,
    is_whole,
    placed_at,
    rebuilt,
    records_of,
    stamp_append_time,
)
from services.local.kafka.configs import LONG_MAX, UNLIMITED, TopicConfig
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.files import SegmentFiles
from services.local.kafka.journal import replace_file
from services.local.kafka.producers import AbortedTransaction, ProducerStates
from services.local.kafka.segment import SEGMENT_SUFFIX, Segment, segment_path

NO_TIMESTAMP = -1
_STATE_FILE = "state.json"
_TEMPORARY_SUFFIXES = (".new", ".cleaned")


class CompactionPass(msgspec.Struct, frozen=True, kw_only=True):
    """One finished compaction: everything below `end_offset` was clean at `at_ms`."""

    end_offset: int
    at_ms: int


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """What the segment files alone cannot tell."""

    start_offset: int = 0
    passes: tuple[CompactionPass, ...] = ()
    oldest_tombstone: int | None = None


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch now stands; `append_time_ms` is NO_TIMESTAMP where the producer's clock counts."""

    base_offset: int
    append_time_ms: int


class TimedOffset(msgspec.Struct, frozen=True, kw_only=True):
    """The first record at or after a time."""

    offset: int
    timestamp_ms: int


class PartitionLog:
    """The records of one partition, on disk."""

    def __init__(self, directory: Path, config: TopicConfig, files: SegmentFiles) -> None:
        self.config = config
        self.directory = directory
        self.producers = ProducerStates()
        self.state = LogState()
        self.segments: list[Segment] = []
        self.closed = False
        self._files = files
        self._waiters: set[Callable[[], None]] = set()
        self._load()

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return self.state.start_offset

    @property
    def end_offset(self) -> int:
        """The offset that the next record will get."""
        return self.segments[-1].next_offset if self.segments else self.start_offset

    @property
    def stable_offset(self) -> int:
        """The offset before which every transaction has ended."""
        return self.producers.stable_offset(self.end_offset)

    def append(self, data: bytes, now_ms: int) -> Appended:
        """Write one produced batch, or raise Refused; a repeat of a recent batch answers as the first did."""
        header = self._checked(data, now_ms)
        written = self.producers.check(header)
        if written is not None:
            return Appended(base_offset=written.base_offset, append_time_ms=written.max_timestamp_ms)
        codec = self.config.codec
        if codec is not None and codec != header.codec:
            data = bytes(self._recompressed(data, header, codec))
        batch = placed_at(data, self.end_offset)
        if self.config.uses_append_time:
            stamp_append_time(batch, now_ms)
        header = header_at(batch)
        self._write(batch, header)
        self.producers.record(header)
        self._notify()
        append_time_ms = now_ms if self.config.uses_append_time else NO_TIMESTAMP
        return Appended(base_offset=header.base_offset, append_time_ms=append_time_ms)

    def end_transaction(self, producer_id: ProducerId, epoch: int, committed: bool, now_ms: int) -> None:
        """Write the marker that ends a producer's open transaction here, if it has one."""
        if producer_id not in self.producers.open_transactions():
            return
        batch = placed_at(control_batch(producer_id, epoch, committed, now_ms), self.end_offset)
        header = header_at(batch)
        self._write(batch, header)
        self.producers.record_marker(header, committed)
        self._notify()

    def read(self, offset: int, upper_offset: int, bytes_max: int) -> bytes:
        """Give whole batches from `offset` on; the first even if it alone is larger than `bytes_max`."""
        if offset >= upper_offset:
            return b""
        bases = [segment.base_offset for segment in self.segments]
        for segment in self.segments[max(bisect_right(bases, offset) - 1, 0) :]:
            data = segment.read(offset, upper_offset, bytes_max)
            if data:
                return data
        return b""

    def aborted_between(self, offset: int, upper_offset: int) -> list[AbortedTransaction]:
        """Give the aborted transactions that a reader of committed records must skip."""
        return self.producers.aborted_between(offset, upper_offset)

    def offset_at_time(self, timestamp_ms: int) -> TimedOffset | None:
        """Find the first record at or after a time, to the record, not to the batch."""
        for segment in self.segments:
            for position in segment.positions_at_time(timestamp_ms):
                for record in readable_records(segment.batch_at(position)):
                    if record.timestamp_ms >= timestamp_ms and record.offset >= self.start_offset:
                        return TimedOffset(offset=record.offset, timestamp_ms=record.timestamp_ms)
        return None

    def trim(self, offset: int) -> None:
        """Make everything before `offset` unreadable and delete the segments that hold nothing else."""
        start = min(max(offset, self.start_offset), self.end_offset)
        if start == self.start_offset:
            return
        if self.segments and start == self.segments[-1].next_offset and self.segments[-1].size_bytes:
            self._roll()
        self.save_state(msgspec.structs.replace(self.state, start_offset=start))
        while len(self.segments) > 1 and self.segments[0].next_offset <= start:
            self.segments.pop(0).delete()
        self.producers.forget_before(start)

    def expire(self, now_ms: int) -> None:
        """Delete the oldest segments beyond `retention.ms` and `retention.bytes`."""
        config = self.config
        if not config.expires:
            return
        excess = sum(segment.size_bytes for segment in self.segments) - config.retention_bytes
        offset = self.start_offset
        for segment in self.segments:
            too_old = (
                config.retention_ms != UNLIMITED and segment.max_timestamp_ms < now_ms - config.retention_ms
            )
            too_much = config.retention_bytes != UNLIMITED and excess >= segment.size_bytes
            if segment.size_bytes and not (too_old or too_much):
                break
            excess -= segment.size_bytes
            offset = segment.next_offset
        self.trim(offset)

    def wait(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, at the next append."""
        self._waiters.add(callback)

    def stop_waiting(self, callback: Callable[[], None]) -> None:
        """Forget a callback that has not been called."""
        self._waiters.discard(callback)

    def close(self) -> None:
        """Wake every waiter for the last time: the partition is being deleted."""
        self.closed = True
        for segment in self.segments:
            self._files.forget(segment.path)
        self._notify()

    def save_state(self, state: LogState) -> None:
        """Put the log's state on disk in one step."""
        replace_file(self.directory / _STATE_FILE, msgspec.json.encode(state))
        self.state = state

    def open_segment(self, path: Path, base_offset: int) -> Segment:
        """Index a segment file that is already in its place."""
        segment = Segment(path, base_offset, self._files)
        for _ in segment.load(verify=False):
            pass
        return segment

    def forget_file(self, path: Path) -> None:
        """Close a segment file before it is replaced."""
        self._files.forget(path)

    def _checked(self, data: bytes, now_ms: int) -> BatchHeader:
        try:
            header = header_at(data)
        except BatchCorrupt as exc:
            raise Refused(ErrorCode.CORRUPT_MESSAGE, str(exc)) from exc
        if header.size_bytes < len(data):
            raise Refused(ErrorCode.INVALID_RECORD, "more than one batch")
        if not is_whole(data, header):
            raise Refused(ErrorCode.CORRUPT_MESSAGE, "checksum")
        if header.size_bytes > self.config.max_message_bytes:
            raise Refused(ErrorCode.MESSAGE_TOO_LARGE)
        if header.is_control or header.record_count != header.last_offset_delta + 1:
            raise Refused(ErrorCode.INVALID_RECORD, "a control batch or a wrong record count")
        if not self.config.uses_append_time:
            self._check_times(data, header, now_ms)
        if self.config.is_compacted:
            self._check_keys(data)
        return header

    def _check_times(self, data: bytes, header: BatchHeader, now_ms: int) -> None:
        if header.is_log_append_time:
            raise Refused(ErrorCode.INVALID_TIMESTAMP, "only the broker stamps with its own time")
        if header.max_timestamp > now_ms + self.config.message_timestamp_after_max_ms:
            raise Refused(ErrorCode.INVALID_TIMESTAMP, "beyond message.timestamp.after.max.ms")
        if self.config.message_timestamp_before_max_ms == LONG_MAX:
            return
        earliest_ms = now_ms - self.config.message_timestamp_before_max_ms
        if any(NO_TIMESTAMP != stamp_ms < earliest_ms for stamp_ms in _stamps(data)):
            raise Refused(ErrorCode.INVALID_TIMESTAMP, "before message.timestamp.before.max.ms")

    @staticmethod
    def _check_keys(data: bytes) -> None:
        try:
            keyed = every_key_present(data)
        except BatchCorrupt as exc:
            raise Refused(ErrorCode.CORRUPT_MESSAGE, str(exc)) from exc
        if not keyed:
            raise Refused(ErrorCode.INVALID_RECORD, "a compacted topic needs a key in every record")

    @staticmethod
    def _recompressed(data: bytes, header: BatchHeader, codec: int) -> bytearray:
        try:
            return rebuilt(header, list(records_of(data)), codec)
        except BatchCorrupt as exc:
            raise Refused(ErrorCode.CORRUPT_MESSAGE, str(exc)) from exc

    def _write(self, batch: bytearray, header: BatchHeader) -> None:
        if not self.segments or self._is_full(self.segments[-1], header):
            self._roll()
        self.segments[-1].append(batch, header)

    def _is_full(self, segment: Segment, header: BatchHeader) -> bool:
        if not segment.size_bytes:
            return False
        too_large = segment.size_bytes + header.size_bytes > self.config.segment_bytes
        return too_large or header.max_timestamp - segment.first_timestamp_ms > self.config.roll_ms

    def _roll(self) -> None:
        base_offset = self.end_offset
        path = segment_path(self.directory, base_offset)
        path.touch()
        self.segments.append(Segment(path, base_offset, self._files))

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for callback in waiters:
            callback()

    def _load(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if path.suffix in _TEMPORARY_SUFFIXES:
                path.unlink()
        state_path = self.directory / _STATE_FILE
        if state_path.exists():
            self.state = msgspec.json.decode(state_path.read_bytes(), type=LogState)
        paths = sorted(self.directory.glob(f"*{SEGMENT_SUFFIX}"))
        for path in paths:
            self._load_segment(path, is_last=path == paths[-1])
        self.producers.forget_before(self.start_offset)

    def _load_segment(self, path: Path, is_last: bool) -> None:
        base_offset = int(path.stem)
        if self.segments and base_offset < self.segments[-1].next_offset:
            # A compaction was cut between putting the merged segment in place and deleting the ones it holds.
            path.unlink()
            return
        segment = Segment(path, base_offset, self._files)
        for header, position in segment.load(verify=is_last):
            if header.is_control:
                self.producers.record_marker(header, commits(segment.batch_at(position)))
            else:
                self.producers.record(header)
        self.segments.append(segment)


def _stamps(batch: bytes) -> list[int]:
    try:
        return [record.timestamp_ms for record in records_of(batch)]
    except BatchCorrupt as exc:
        raise Refused(ErrorCode.CORRUPT_MESSAGE, str(exc)) from exc


def readable_records(batch: bytes) -> Iterator[Record]:
    """Give a batch's records; one whose producer compressed nonsense has none to find."""
    try:
        yield from records_of(batch)
    except BatchCorrupt:
        return
