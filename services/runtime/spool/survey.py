"""Reads what lies in spools without touching them, whether or not a process is at work there."""

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from schemas.ids import RequestId, time_of
from services.runtime.spool.adoption import is_held, spool_directories
from services.runtime.spool.frames import ADDED, CLOSED, HEAD, MARK, Frame
from services.runtime.spool.refused import refused_bytes
from services.runtime.spool.segment import Damaged, scanned, segment_paths
from services.runtime.spool.store import SOURCE_NAME


class Survey(NamedTuple):
    """One spool as it lies on disk; `fault` says why the figures are not to be had, "" where they are."""

    directory: Path
    source_id: str
    is_held: bool
    entries: int
    open_exchanges: int
    bytes: int
    refused_bytes: int
    oldest_at: datetime | None
    fault: str


class _Tally:
    """What waits in one spool: entries that are not acknowledged, and exchanges that are not closed."""

    def __init__(self) -> None:
        self.appended = 0
        self.acknowledged = 0
        self.bytes = 0
        self.waiting: dict[int, str] = {}
        self.open: dict[str, None] = {}

    def add(self, frame: Frame) -> None:
        if frame.kind in (HEAD, MARK):
            noted = int.from_bytes(frame.blob, "big") if frame.kind == HEAD else frame.seq
            self.acknowledged = max(self.acknowledged, noted)
            for seq in list(takewhile(lambda seq: seq <= noted, self.waiting)):
                del self.waiting[seq]
            return
        if frame.seq > self.acknowledged:
            self.waiting[frame.seq] = frame.exchange
        if frame.kind == CLOSED:
            self.open.pop(frame.exchange, None)
        elif frame.kind != ADDED:
            self.open[frame.exchange] = None

    def oldest_at(self) -> datetime | None:
        return min((at for at in map(_begun_at, {*self.waiting.values(), *self.open}) if at), default=None)


def surveyed(root: Path) -> Iterator[Survey]:
    """Describe every spool under a root."""
    for directory in spool_directories(root):
        yield survey(directory)


def survey(directory: Path) -> Survey:
    """Describe one spool."""
    tally, fault, held, source_id = _Tally(), "", False, ""
    try:
        held = is_held(directory)
        source_id = (directory / SOURCE_NAME).read_text().strip()
        for path in segment_paths(directory):
            _add_file(tally, path)
    except (OSError, Damaged) as exc:
        fault = str(exc)
    return Survey(
        directory=directory,
        source_id=source_id,
        is_held=held,
        entries=len(tally.waiting),
        open_exchanges=len(tally.open),
        bytes=tally.bytes,
        refused_bytes=refused_bytes(directory),
        oldest_at=tally.oldest_at(),
        fault=fault,
    )


def _add_file(tally: _Tally, path: Path) -> None:
    try:
        tally.bytes += path.stat().st_size
        scan = scanned(path)
    except FileNotFoundError:
        return  # acknowledged meanwhile
    for frame in scan.frames:
        tally.add(frame)


def _begun_at(exchange: str) -> datetime | None:
    try:
        return time_of(RequestId(exchange))
    except ValueError:
        return None
