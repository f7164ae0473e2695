"""Keeps on disk what Kafka will never take as it is, for a person; nothing reads it back by itself."""

import os
from datetime import UTC, datetime
from pathlib import Path

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.runtime.publisher import Refused
from services.runtime.spool.segment import SpoolFailed

REFUSED_NAME = "refused.jsonl"
# Some hundred events of the largest size: more of them are one fault, and the log says so for each.
REFUSED_BYTES_MAX = 64 * 1024 * 1024
# It never had a place in a topic.
NOWHERE = -1


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
    path = directory / REFUSED_NAME
    try:
        if refused_bytes(directory) + len(line) > REFUSED_BYTES_MAX:
            return False
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(file, line)
        finally:
            os.close(file)
    except OSError as exc:
        raise SpoolFailed(f"{path.name} cannot be written: {exc.strerror}") from exc
    if written != len(line):
        raise SpoolFailed(f"{path.name} took {written} of {len(line)} bytes: the disk is full")
    return True


def refused_bytes(directory: Path) -> int:
    """Give the size of what was set aside in a spool's directory."""
    path = directory / REFUSED_NAME
    return path.stat().st_size if path.exists() else 0
