"""Keeps large bodies in a temporary directory that ends with the process; never decides what is in them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from services.local.anthropic.errors import ApiFault

STORED_BYTES_MAX = 4 * 1024**3  # some uploads of the largest size; beyond it new ones get 503
PIECE_BYTES = 64 * 1024


class Storage:
    """Named runs of bytes on disk, bounded in sum."""

    def __init__(self, bytes_max: int = STORED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._sizes: dict[str, int] = {}

    def path_for(self, name: str, size_bytes: int) -> Path:
        """Make room for a file and say where it is to be written."""
        if sum(self._sizes.values()) + size_bytes > self._bytes_max:
            raise ApiFault(503, "The simulation holds as many bytes as it may; delete something first")
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(
                prefix="simulated-anthropic-", ignore_cleanup_errors=True
            )
        self._sizes[name] = size_bytes
        return self._path(name)

    def path_of(self, name: str) -> Path:
        """Find a file that was written."""
        assert name in self._sizes
        return self._path(name)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file from its beginning, a piece at a time; it may be deleted meanwhile."""
        return _pieces(self.path_of(name))

    def delete(self, name: str) -> None:
        """Forget a file."""
        self._path(name).unlink(missing_ok=True)
        del self._sizes[name]

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        return Path(self._directory.name, name)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece
