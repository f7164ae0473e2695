"""One file of a spool: frames are appended to it whole, read from it, and never changed; knows no entries."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from services.runtime.spool.frames import HEAD_BYTES, Frame, bytes_wanted, frames, holds_frame

SUFFIX = ".segment"
# What a reader takes from a file at once.
READ_BYTES = 256 * 1024


class SpoolFailed(Exception):
    """The disk did not do what was asked: what was to be written is not there, what was there still is."""


class Damaged(Exception):
    """A file cannot be read where a crash of ours would leave it whole; the text names the place."""


class Scan(NamedTuple):
    """What a file holds: its whole frames, where they end, and how many torn bytes lie behind them."""

    frames: list[Frame]
    end: int
    torn_bytes: int


class Segment:
    """One file and what its owner keeps account of: the last seq in it, and bytes of open exchanges."""

    def __init__(self, path: Path, size: int = 0, last_seq: int = 0) -> None:
        self.path = path
        self.size = size
        self.last_seq = last_seq
        self.live_bytes = 0

    def read(self, start: int, end: int) -> bytes:
        """Give some of its bytes; SpoolFailed where they are not to be had."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), end - start, start)
        except OSError as exc:
            raise SpoolFailed(f"{self.path.name} cannot be read: {exc.strerror}") from exc

    def frames_from(self, offset: int) -> Iterator[Frame]:
        """Give the frames from an offset on, a portion of the file at a time."""
        portion = READ_BYTES
        while offset < self.size:
            data = self.read(offset, min(offset + portion, self.size))
            portion, before = READ_BYTES, offset
            for frame in frames(data, offset):
                offset = frame.end
                yield frame
            if offset == before:
                portion = bytes_wanted(data)
                if portion <= len(data):
                    raise SpoolFailed(f"{self.path.name} is damaged at byte {offset}")


def number_of(path: Path) -> int:
    """Give the number of a segment by its file's name."""
    return int(path.name.removesuffix(SUFFIX))


def path_of(directory: Path, number: int) -> Path:
    """Give the file of the segment with that number."""
    return directory / f"{number:012d}{SUFFIX}"


def segment_paths(directory: Path) -> list[Path]:
    """List the files of a spool, oldest first."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.name.removesuffix(SUFFIX).isdecimal())


def scanned(path: Path) -> Scan:
    """Read a whole file; Damaged where more than its end is missing."""
    data = path.read_bytes()
    found = list(frames(data))
    end = found[-1].end if found else 0
    if end < len(data) and holds_frame(data, end + 1):
        raise Damaged(f"byte {end} of {path}, with entries behind it,")
    if not found and len(data) > HEAD_BYTES:
        raise Damaged(f"byte 0 of {path}")
    return Scan(found, end, len(data) - end)
