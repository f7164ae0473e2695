"""Keeps a table on disk as a journal of JSON lines that never outgrows a small multiple of the table."""

import errno
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

Value = TypeVar("Value")

SLACK_LINES = 2_000  # dead lines allowed besides as many as the table has entries, before it is written anew


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step: a reader finds the old bytes or the new, never half."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)


class Journal(Generic[Value]):
    """A table of string keys whose every change is on disk when the call returns."""

    def __init__(self, path: Path, value_type: type[Value]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(tuple[str, value_type | None])
        self._entries: dict[str, Value] = {}
        self._lines = 0
        self._read()
        self._rewrite()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def entries(self) -> dict[str, Value]:
        """Give a copy of the table."""
        return dict(self._entries)

    def get(self, key: str) -> Value | None:
        """Give the value of `key`, None where there is none."""
        return self._entries.get(key)

    def update(self, changes: dict[str, Value | None]) -> None:
        """Write all `changes` in one go; None deletes."""
        if not changes:
            return
        lines = b"".join(msgspec.json.encode(change) + b"\n" for change in changes.items())
        before_bytes = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, lines) != len(lines):
                raise OSError(errno.ENOSPC, f"{self._path.name}: short write")
        except OSError:
            os.ftruncate(self._descriptor, before_bytes)  # else the next line would be glued to half of this
            raise
        self._lines += len(changes)
        self._apply(changes)
        if self._lines > 2 * len(self._entries) + SLACK_LINES:
            self._rewrite()
            os.close(self._descriptor)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _apply(self, changes: dict[str, Value | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = value

    def _read(self) -> None:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                key, value = self._decoder.decode(line)
            except msgspec.DecodeError:
                continue  # a line torn by a crash was never acknowledged
            self._apply({key: value})

    def _rewrite(self) -> None:
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in self._entries.items())
        replace_file(self._path, lines)
        self._lines = len(self._entries)
