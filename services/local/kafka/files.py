"""Lends open file descriptors for segment files; never holds more than a fixed number of them open."""

import os
from collections import OrderedDict
from pathlib import Path

OPEN_FILES_MAX = 200  # well below the common soft limit of 1,024 (macOS: 256), sockets need the rest


class SegmentFiles:
    """Opens segment files on demand and closes the least recently used beyond the limit."""

    def __init__(self, open_max: int = OPEN_FILES_MAX) -> None:
        self._open_max = open_max
        self._descriptors: OrderedDict[Path, int] = OrderedDict()

    def descriptor(self, path: Path) -> int:
        """Give an open descriptor, good until the next call."""
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._descriptors.move_to_end(path)
            return descriptor
        while len(self._descriptors) >= self._open_max:
            _, oldest = self._descriptors.popitem(last=False)
            os.close(oldest)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptors[path] = descriptor
        return descriptor

    def forget(self, path: Path) -> None:
        """Close the file if it is open, before it is deleted or replaced."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close every file."""
        while self._descriptors:
            _, descriptor = self._descriptors.popitem()
            os.close(descriptor)
