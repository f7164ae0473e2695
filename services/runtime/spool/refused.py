"""Keeps on disk what Kafka did not take, for a person to look at and to publish again; publishes nothing.

Records are lines of one file: who has the spool appends them, who publishes them again takes them out.
"""

import contextlib
import os
import shutil
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.publisher import Refused
from services.runtime.spool.segment import SpoolFailed

REFUSED_NAME = "refused.jsonl"
DRAFT_NAME = "refused.jsonl.new"
# Held while the file is appended to or replaced; nobody waits for it, since an edge cannot.
REFUSED_LOCK_NAME = "refused.lock"
# Some hundred events of the largest size: more of them are one fault, and the log says so for each.
REFUSED_BYTES_MAX = 64 * 1024 * 1024
# It never had a place in a topic.
NOWHERE = -1


class Line(NamedTuple):
    """One line of the file as it lies there; without a letter where it is not whole."""

    text: bytes
    letter: DeadLetter | None


class RefusedHeld(SpoolFailed):
    """Somebody else is at the file in this moment: ask again."""


def set_aside(directory: Path, stage: str, refused: Refused) -> bool:
    """Append one record, as a dead letter without a place; False where the file has no room for it.

    SpoolFailed where the disk does not take it: the record is then published again, and refused again.
    """
    record = refused.record
    letter = DeadLetter(
        topic=record.topic,
        partition=NOWHERE,
        offset=NOWHERE,
        stage=stage,
        error_class=refused.error_class,
        error=f"Kafka does not take its {len(record.value or b'')} bytes",
        dead_at=datetime.now(UTC),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
    line = codec.encode(letter) + b"\n"
    try:
        with _held(directory):
            size = refused_bytes(directory)
            if size + len(line) > REFUSED_BYTES_MAX:
                return False
            _append(directory / REFUSED_NAME, size, line)
    except OSError as exc:
        raise SpoolFailed(f"{REFUSED_NAME} cannot be written: {exc.strerror}") from exc
    return True


def refused_bytes(directory: Path) -> int:
    """Give the size of what was set aside in a spool's directory."""
    path = directory / REFUSED_NAME
    return path.stat().st_size if path.exists() else 0


def lines(directory: Path) -> Iterator[Line]:
    """Read what was set aside, oldest first, as far as it goes when this begins; a line at a time."""
    left = refused_bytes(directory)
    if not left:
        return
    with (directory / REFUSED_NAME).open("rb") as file:
        for text in file:
            left -= len(text)
            if left < 0:
                return  # it was appended meanwhile
            yield Line(text, _letter(text))


def replace(directory: Path, draft: Path, settled_bytes: int) -> None:
    """Put a draft in the place of the first bytes of the file; what lies behind them stays.

    RefusedHeld where the file is being appended to. Until the last step all is as it was.
    """
    path = directory / REFUSED_NAME
    with _held(directory):
        with path.open("rb") as file, draft.open("ab") as behind:
            file.seek(settled_bytes)
            shutil.copyfileobj(file, behind)
            behind.flush()
            os.fsync(behind.fileno())
        if draft.stat().st_size:
            draft.replace(path)
        else:
            path.unlink()
            draft.unlink()


def _append(path: Path, size: int, line: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(file, line)
        if written != len(line):
            os.ftruncate(file, size)  # or the next line would begin within this one
            raise SpoolFailed(f"{path.name} took {written} of {len(line)} bytes: the disk is full")
    finally:
        os.close(file)


@contextlib.contextmanager
def _held(directory: Path) -> Generator[None]:
    try:
        lock = lock_directory(directory, REFUSED_LOCK_NAME)
    except DirectoryHeld as exc:
        raise RefusedHeld(f"{REFUSED_NAME} is being written by another process") from exc
    try:
        yield
    finally:
        os.close(lock)


def _letter(text: bytes) -> DeadLetter | None:
    try:
        return codec.decode(DeadLetter, text) if text.endswith(b"\n") else None
    except codec.Undecodable:
        return None
