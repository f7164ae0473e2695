"""Decides when a compacted partition is cleaned and rewrites its closed segments, never the active one."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from services.local.kafka.batch import (
    HEADER_BYTES,
    UNCOMPRESSED,
    BatchCorrupt,
    BatchHeader,
    Record,
    header_at,
    rebuilt,
    records_of,
)
from services.local.kafka.configs import TopicConfig
from services.local.kafka.log import CompactionPass, LogState, PartitionLog, readable_records
from services.local.kafka.producers import AbortedTransaction
from services.local.kafka.segment import Segment

KEYS_MAX = (
    1_000_000  # of the map from key to last offset, some 150 MB; what does not fit waits for the next pass
)
PASSES_MAX = 64  # remembered, to know how long a tombstone has been clean; dropping one only keeps it longer
_CLEANED_SUFFIX = ".cleaned"


class CompactionCancelled(Exception):
    """The broker is stopping: what was written so far is worthless and goes at the next start."""


class SegmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """A closed segment as the plan saw it."""

    path: Path
    base_offset: int
    next_offset: int
    size_bytes: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A partition to be cleaned: everything a thread needs, so that it never looks at the live log."""

    log: PartitionLog
    segments: list[SegmentFile]
    clean_offset: int
    tombstones_before: int
    aborted: list[AbortedTransaction]
    last_batches: frozenset[int]
    segment_bytes: int


class CleanedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A finished file that takes the place of one or more segments."""

    path: Path
    base_offset: int
    replaces: list[Path]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a cleaning wrote; everything below `end_offset` is clean."""

    cleaned: list[CleanedSegment]
    end_offset: int
    oldest_tombstone: int | None


def plan(log: PartitionLog, now_ms: int) -> Plan | None:
    """Decide whether a partition is due for cleaning, and what of it may be cleaned."""
    config = log.config
    if not config.is_compacted or log.closed:
        return None
    closed = list(_cleanable(log, now_ms))
    clean_offset = max((done.end_offset for done in log.state.passes), default=0)
    expired = [done for done in log.state.passes if done.at_ms <= now_ms - config.delete_retention_ms]
    tombstones_before = max((done.end_offset for done in expired), default=0)
    oldest_tombstone = log.state.oldest_tombstone
    may_drop_tombstones = oldest_tombstone is not None and oldest_tombstone < tombstones_before
    if not may_drop_tombstones and not _is_due(closed, clean_offset, config, now_ms):
        return None
    return Plan(
        log=log,
        segments=[_as_planned(segment) for segment in closed],
        clean_offset=clean_offset,
        tombstones_before=tombstones_before,
        aborted=log.aborted_between(0, log.end_offset),
        last_batches=log.producers.last_batches(),
        segment_bytes=config.segment_bytes,
    )


def _cleanable(log: PartitionLog, now_ms: int) -> Iterator[Segment]:
    """Give the closed segments up to the first that is too young or holds an open transaction."""
    lag_ms = log.config.min_compaction_lag_ms
    for segment in log.segments[:-1]:
        too_young = lag_ms and segment.max_timestamp_ms > now_ms - lag_ms
        if too_young or segment.next_offset > log.stable_offset:
            return
        yield segment


def _is_due(closed: list[Segment], clean_offset: int, config: TopicConfig, now_ms: int) -> bool:
    """Whether enough is dirty, or anything has been for too long."""
    dirty = [segment for segment in closed if segment.next_offset > clean_offset and segment.size_bytes]
    if not dirty:
        return False
    is_overdue = dirty[0].first_timestamp_ms < now_ms - config.max_compaction_lag_ms
    total_bytes = sum(segment.size_bytes for segment in closed)
    dirty_bytes = sum(segment.size_bytes for segment in dirty)
    return is_overdue or dirty_bytes > config.min_cleanable_dirty_ratio * total_bytes


def _as_planned(segment: Segment) -> SegmentFile:
    return SegmentFile(
        path=segment.path,
        base_offset=segment.base_offset,
        next_offset=segment.next_offset,
        size_bytes=segment.size_bytes,
    )


def rewrite(plan: Plan, cancelled: threading.Event, keys_max: int = KEYS_MAX) -> Result:
    """Write cleaned copies of the planned segments beside them; the log itself stays as it is."""
    return _Cleaner(plan, cancelled, keys_max).clean()


def install(plan: Plan, result: Result, now_ms: int) -> None:
    """Put the cleaned segments in the place of the old, unless the log has changed underneath."""
    log = plan.log
    planned = [segment.path for segment in plan.segments]
    if log.closed or [segment.path for segment in log.segments[: len(planned)]] != planned:
        for cleaned in result.cleaned:
            cleaned.path.unlink(missing_ok=True)
        return
    by_path = {segment.path: segment for segment in log.segments}
    for cleaned in result.cleaned:
        target = cleaned.replaces[0]
        log.forget_file(target)
        cleaned.path.replace(target)
        position = log.segments.index(by_path[target])
        log.segments[position] = log.open_segment(target, cleaned.base_offset)
        for path in cleaned.replaces[1:]:
            by_path[path].delete()
            log.segments.remove(by_path[path])
    passes = (*log.state.passes, CompactionPass(end_offset=result.end_offset, at_ms=now_ms))
    kept = tuple(done for done in passes if done.end_offset >= plan.tombstones_before)[-PASSES_MAX:]
    log.save_state(
        LogState(start_offset=log.start_offset, passes=kept, oldest_tombstone=result.oldest_tombstone)
    )


class _Cleaner:
    def __init__(self, plan: Plan, cancelled: threading.Event, keys_max: int) -> None:
        self._plan = plan
        self._cancelled = cancelled
        self._keys_max = keys_max
        self._latest: dict[bytes, int] = {}
        self._end_offset = plan.clean_offset
        self._oldest_tombstone: int | None = None

    def clean(self) -> Result:
        self._learn_latest()
        cleaned = [self._merge(group) for group in self._groups()]
        return Result(cleaned=cleaned, end_offset=self._end_offset, oldest_tombstone=self._oldest_tombstone)

    def _learn_latest(self) -> None:
        """Map each key of the dirty part to its last offset, as far as the limit of keys allows."""
        for segment in self._plan.segments:
            if segment.next_offset <= self._plan.clean_offset:
                continue
            if len(self._latest) >= self._keys_max:
                return
            for header, batch in self._batches(segment.path):
                if not header.is_control:
                    self._learn(header, batch)
            self._end_offset = segment.next_offset

    def _learn(self, header: BatchHeader, batch: bytes) -> None:
        for record in readable_records(batch):
            if record.key is not None and not self._is_aborted(header, record.offset):
                self._latest[record.key] = record.offset

    def _groups(self) -> Iterator[list[SegmentFile]]:
        """Put neighbours together while they fit into one segment, so that small rests do not pile up."""
        group: list[SegmentFile] = []
        for segment in self._plan.segments:
            if segment.next_offset > self._end_offset:
                break
            size_bytes = sum(item.size_bytes for item in group) + segment.size_bytes
            if group and size_bytes > self._plan.segment_bytes:
                yield group
                group = []
            group.append(segment)
        if group:
            yield group

    def _merge(self, group: list[SegmentFile]) -> CleanedSegment:
        target = group[0].path.with_name(group[0].path.name + _CLEANED_SUFFIX)
        with target.open("wb") as out:
            for segment in group:
                for header, batch in self._batches(segment.path):
                    out.write(self._filtered(header, batch))
        return CleanedSegment(
            path=target,
            base_offset=group[0].base_offset,
            replaces=[segment.path for segment in group],
        )

    def _filtered(self, header: BatchHeader, batch: bytes) -> bytes | bytearray:
        if header.is_control:
            return batch  # readers of committed records need the marker as long as the log remembers it
        try:
            records = list(records_of(batch))
        except BatchCorrupt:
            return batch
        kept = [record for record in records if self._survives(header, record)]
        if len(kept) == len(records):
            return batch
        if kept:
            return rebuilt(header, kept, header.codec)
        # A producer's last batch stays, if empty: else a restart would forget how far its sequence went.
        return rebuilt(header, [], UNCOMPRESSED) if header.base_offset in self._plan.last_batches else b""

    def _survives(self, header: BatchHeader, record: Record) -> bool:
        if record.key is None:
            return True
        if self._is_aborted(header, record.offset) or self._latest.get(record.key, -1) > record.offset:
            return False
        if record.value is None:
            if record.offset < self._plan.tombstones_before:
                return False
            if self._oldest_tombstone is None:
                self._oldest_tombstone = record.offset
        return True

    def _is_aborted(self, header: BatchHeader, offset: int) -> bool:
        return header.is_transactional and any(
            span.producer_id == header.producer_id and span.first_offset <= offset < span.marker_offset
            for span in self._plan.aborted
        )

    def _batches(self, path: Path) -> Iterator[tuple[BatchHeader, bytes]]:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            while file.tell() < end:
                if self._cancelled.is_set():
                    raise CompactionCancelled(path.name)
                head = file.read(HEADER_BYTES)
                header = header_at(head)
                yield header, head + file.read(header.size_bytes - len(head))
