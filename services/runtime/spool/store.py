"""Keeps entries on disk in order of append until they are forgotten; knows no Kafka and no event.

An append has happened when the call returns: write() was done, so the entry survives the death of the
process. It survives the loss of the host only with `fsync`, once `GroupSync` says so.

The entries lie in a log of segments. What Kafka acknowledged is noted by a mark, and the oldest segment goes
when everything in it is acknowledged: entries of exchanges that are still open are copied to the end first.
Segments go strictly in order, so that no closing entry goes before what it closes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from schemas.ids import RequestId, SourceId, new_source_id
from services.runtime import metrics
from services.runtime.errors import StartRefused
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, HEAD, HEAD_BYTES, MARK, OPENED, Frame, framed
from services.runtime.spool.segment import (
    Damaged,
    Scan,
    Segment,
    SpoolFailed,
    number_of,
    path_of,
    scanned,
    segment_paths,
)

log = structlog.get_logger(__name__)

SOURCE_NAME = "source_id"
LOCK_NAME = "lock"
# Some 1,000 exchanges: rarely enough to make files, soon enough to give their room back.
SEGMENT_BYTES = 4 * 1024 * 1024
# A spool of a small limit has so many segments at least, so that acknowledging makes room.
SEGMENTS_MIN = 4
# What one call of `read` gives at most, whatever the number of entries.
READ_BYTES_MAX = 4 * 1024 * 1024

# The spool of releases before the log of segments; its entries are not read any more.
_FORMER_NAME = "spool.sqlite3"
_MOVE_AWAY = "cannot be read. Move that file away to start without what it holds."


class Entry(NamedTuple):
    """One append of an exchange: its place, which of the four it is, and the records to publish for it."""

    seq: int
    exchange: RequestId
    stage: int
    records: tuple[OutgoingRecord, ...]


class SpoolFull(Exception):
    """The spool has reached its limit in bytes: refuse new exchanges, or serve and count the loss."""


class SpoolHeld(StartRefused):
    """Another running process has this directory: take the next one."""


class _Place(NamedTuple):
    segment: Segment
    start: int
    end: int


class _Cursor(NamedTuple):
    seq: int
    segment: Segment
    offset: int


class Spool:
    """The spool of one process: one locked directory with its lasting id inside.

    `appended` and `acknowledged` never decrease and are seqs of entries. All calls are short (microseconds)
    and come from one thread. What the disk refuses is SpoolFailed, and leaves the spool as it was.
    """

    def __init__(self, directory: Path, bytes_max: int, *, fsync: bool = False) -> None:
        self.directory = directory
        self.bytes_max = bytes_max
        self.appended = 0
        self.acknowledged = 0
        self.bytes = 0
        self._segment_bytes = min(SEGMENT_BYTES, bytes_max // SEGMENTS_MIN)
        self._fsync = fsync
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[OutgoingRecord, ...]).decode
        self._open: dict[RequestId, dict[int, _Place]] = {}
        self._segments: list[Segment] = []
        self._cursor: _Cursor | None = None
        self._file = -1
        self._is_torn = False
        self._retired: list[int] = []
        self._lock = _lock(directory)
        try:
            if (directory / _FORMER_NAME).exists():
                raise StartRefused(
                    f"the spool {directory} was written by an older release ({_FORMER_NAME}): let that "
                    "release publish what it holds, then delete the file."
                )
            self._recover()
            self.source_id = _lasting_id(directory, is_lost=not self._segments)
            self._begin()
        except BaseException as exc:
            os.close(self._lock)
            if isinstance(exc, OSError | SpoolFailed):
                raise StartRefused(f"the spool {directory} cannot be used: {exc}.") from exc
            raise

    @property
    def entries(self) -> int:
        """Entries that wait for Kafka."""
        return self.appended - self.acknowledged

    @property
    def open_exchanges(self) -> int:
        """Exchanges with an entry and no closing one."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new exchange may not begin; those that are open may always close."""
        return self.bytes >= self.bytes_max

    def append(self, exchange: RequestId, stage: int, records: Sequence[OutgoingRecord]) -> int:
        """Write one entry and give its seq; SpoolFull for an opening one beyond the limit."""
        if stage == OPENED and self.is_full:
            raise SpoolFull(f"{self.bytes} bytes of at most {self.bytes_max}")
        seq = self.appended + 1
        place = self._write(framed(seq, stage, exchange, self._encode(records)))
        self.appended = place.segment.last_seq = seq
        self._remember(seq, exchange, stage, place)
        return seq

    def read(self, after: int, limit: int) -> list[Entry]:
        """Give up to `limit` entries behind `after`, in order of append, of READ_BYTES_MAX or little more."""
        found: list[Entry] = []
        size = 0
        segment, offset = self._sought(after)
        while len(found) < limit and size < READ_BYTES_MAX and after < self.appended:
            for frame in segment.frames_from(offset):
                offset = frame.end
                # Notes, and copies of entries that were acknowledged long ago, are not for Kafka.
                if frame.kind >= HEAD or frame.seq <= after:
                    continue
                found.append(self._entry(frame))
                after, size = frame.seq, size + len(frame.blob)
                if len(found) >= limit or size >= READ_BYTES_MAX:
                    break
            else:
                if after < self.appended:
                    segment, offset = self._following(segment), 0
        self._cursor = _Cursor(after, segment, offset)
        return found

    def entries_of(self, exchange: RequestId) -> list[Entry]:
        """Give the entries of one open exchange, in order of append, wherever they were moved."""
        places = sorted(self._open.get(exchange, {}).items())
        return [self._entry(next(place.segment.frames_from(place.start))) for _, place in places]

    def unclosed(self) -> list[RequestId]:
        """Name the exchanges that have no closing entry, oldest first."""
        return sorted(self._open, key=lambda exchange: min(self._open[exchange]))

    def forget(self, up_to: int) -> None:
        """Note that Kafka has acknowledged everything up to a seq, and give back the room that this frees.

        SpoolFailed where the disk did not take the note: a successor would publish some of it again.
        """
        if up_to <= self.acknowledged:
            return
        assert up_to <= self.appended
        self.acknowledged = up_to
        if self.is_full and not self.entries:
            self._rotate()  # so that what was acknowledged goes now, and not only when the file is full
        self._reclaim()
        self._write(framed(up_to, MARK, "", b""))

    def unsynced(self) -> list[int]:
        """Give descriptors, to fsync and to close, of what was written since the last call."""
        retired, self._retired = self._retired, []
        return [*retired, os.dup(self._file)]

    def close(self) -> None:
        """Close the files and give the directory up; what was not forgotten stays for the next owner."""
        try:
            if not self.entries and not self._open and self.bytes > HEAD_BYTES:
                self._rotate()
                self._reclaim()
        except SpoolFailed as exc:
            log.warning("spool.tidy_failed", directory=str(self.directory), error=str(exc))
        for descriptor in (self._file, self._lock, *self._retired):
            os.close(descriptor)

    def _entry(self, frame: Frame) -> Entry:
        return Entry(frame.seq, RequestId(frame.exchange), frame.kind, self._decode(frame.blob))

    def _remember(self, seq: int, exchange: RequestId, stage: int, place: _Place) -> None:
        if stage == ADDED:
            return  # it is only on its way to Kafka: nobody asks for it afterwards
        if stage == CLOSED:
            for each in self._open.pop(exchange, {}).values():
                each.segment.live_bytes -= each.end - each.start
            return
        places = self._open.setdefault(exchange, {})
        if former := places.get(seq):
            former.segment.live_bytes -= former.end - former.start
        places[seq] = place
        place.segment.live_bytes += place.end - place.start

    def _sought(self, after: int) -> tuple[Segment, int]:
        cursor = self._cursor
        if cursor is not None and cursor.seq == after and cursor.segment in self._segments:
            return cursor.segment, cursor.offset
        for segment in self._segments:
            if segment.last_seq > after:
                return segment, 0
        return self._segments[-1], 0

    def _following(self, segment: Segment) -> Segment:
        place = self._segments.index(segment) + 1
        if place == len(self._segments):
            raise SpoolFailed(f"entries are missing behind {segment.path.name}")
        return self._segments[place]

    def _write(self, frame: bytes) -> _Place:
        """Put one frame at the end, whole or not at all."""
        active = self._segments[-1]
        if self._is_torn or (active.size + len(frame) > self._segment_bytes and active.size > 0):
            active = self._rotate()
        try:
            written = os.write(self._file, frame)
        except OSError as exc:
            raise SpoolFailed(f"{active.path.name} cannot be written: {exc.strerror}") from exc
        if written != len(frame):
            self._cut(active)
            raise SpoolFailed(f"{active.path.name} took {written} of {len(frame)} bytes: the disk is full")
        start = active.size
        active.size += written
        self.bytes += written
        return _Place(active, start, active.size)

    def _cut(self, active: Segment) -> None:
        try:
            os.ftruncate(self._file, active.size)
        except OSError:
            # What follows must not lie behind half a frame.
            self._is_torn = True

    def _rotate(self) -> Segment:
        """Begin a new segment; where the disk has no room for one, go on in the old one if that is whole."""
        number = number_of(self._segments[-1].path) + 1 if self._segments else 1
        path = path_of(self.directory, number)
        head = framed(self.appended, HEAD, "", self.acknowledged.to_bytes(8, "big"))
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        file = -1
        try:
            file = os.open(path, flags, 0o600)
            if os.write(file, head) != len(head):
                raise OSError(28, "the disk is full")
        except OSError as exc:
            if file >= 0:
                os.close(file)
                path.unlink(missing_ok=True)
            if self._is_torn or not self._segments:
                raise SpoolFailed(f"{path.name} cannot be made: {exc.strerror}") from exc
            metrics.spool_failures.labels("rotate").inc()
            return self._segments[-1]
        self._retire(file)
        self._segments.append(Segment(path, len(head), self.appended))
        self.bytes += len(head)
        self._is_torn = False
        return self._segments[-1]

    def _retire(self, file: int) -> None:
        if self._fsync:
            # The new file's name is on the platter only once its directory is.
            self._retired.append(os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC))
        if self._file >= 0 and self._fsync:
            self._retired.append(self._file)
        elif self._file >= 0:
            os.close(self._file)
        self._file = file

    def _reclaim(self) -> None:
        """Delete the oldest segments while nothing in them is needed; move what is, where that is little."""
        self._drop()
        done = [each for each in self._segments[:-1] if each.last_seq <= self.acknowledged]
        # Where at least half of what could go is dead, moving the rest costs less than it frees.
        if done and sum(each.size for each in done) >= 2 * sum(each.live_bytes for each in done):
            self._carry(done[0])
            self._drop()

    def _drop(self) -> None:
        while len(self._segments) > 1:
            oldest = self._segments[0]
            if oldest.live_bytes or oldest.last_seq > self.acknowledged:
                return
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError as exc:
                raise SpoolFailed(f"{oldest.path.name} cannot be deleted: {exc.strerror}") from exc
            self.bytes -= oldest.size
            del self._segments[0]

    def _carry(self, segment: Segment) -> None:
        """Copy what is open in a segment to the end, under the same seqs."""
        data = segment.read(0, segment.size)
        for exchange, places in self._open.items():
            for seq, place in list(places.items()):
                if place.segment is segment:
                    self._remember(seq, exchange, OPENED, self._write(data[place.start : place.end]))

    def _recover(self) -> None:
        paths = segment_paths(self.directory)
        for path in paths:
            try:
                scan = scanned(path)
            except Damaged as exc:
                raise StartRefused(f"the spool {self.directory} is damaged: {exc} {_MOVE_AWAY}") from exc
            if not scan.frames and path == paths[-1]:
                path.unlink()  # the process died before it had begun this file
                continue
            if not scan.frames:
                raise StartRefused(f"the spool {self.directory} is damaged: {path} {_MOVE_AWAY}")
            self._recall(path, scan)
            if scan.torn_bytes:
                log.warning("spool.torn_tail_found", path=str(path), torn_bytes=scan.torn_bytes)

    def _recall(self, path: Path, scan: Scan) -> None:
        segment = Segment(path, scan.end, self.appended)
        self._segments.append(segment)
        self.bytes += scan.end
        for frame in scan.frames:
            if frame.kind == HEAD:
                self.appended = max(self.appended, frame.seq)
                self.acknowledged = max(self.acknowledged, int.from_bytes(frame.blob, "big"))
                if len(self._segments) == 1:
                    # What lay before the oldest file was acknowledged, or it would be there: the process
                    # may have died between that file's deletion and its note.
                    self.acknowledged = max(self.acknowledged, frame.seq)
            elif frame.kind == MARK:
                self.acknowledged = max(self.acknowledged, frame.seq)
            else:
                place = _Place(segment, frame.start, frame.end)
                self._remember(frame.seq, RequestId(frame.exchange), frame.kind, place)
                self.appended = max(self.appended, frame.seq)
            segment.last_seq = self.appended

    def _begin(self) -> None:
        """Go on in the newest segment, without what was torn; or make the first."""
        if not self._segments:
            self._rotate()
            return
        newest = self._segments[-1]
        self._file = os.open(newest.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._file, newest.size)
        self._reclaim()


def _lock(directory: Path) -> int:
    try:
        return lock_directory(directory, LOCK_NAME)
    except DirectoryHeld as exc:
        raise SpoolHeld(f"the spool {directory} belongs to another running process.") from exc
    except OSError as exc:
        raise StartRefused(f"the spool {directory} cannot be used: {exc.strerror}.") from exc


def _lasting_id(directory: Path, *, is_lost: bool) -> SourceId:
    """Give the id that lasts as long as the numbers do: a spool that lost those begins under another."""
    path = directory / SOURCE_NAME
    if path.exists() and not is_lost:
        lasting = path.read_text().strip()
        if not lasting:
            raise StartRefused(f"the spool {directory} has lost its id: {path} is empty.")
        return SourceId(lasting)
    source_id = new_source_id()
    draft = path.with_suffix(".new")
    draft.write_text(source_id)
    draft.replace(path)
    return source_id
